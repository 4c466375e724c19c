"""Images, audio and documents: what a part's content is, and its mime type."""

from __future__ import annotations

import base64
import binascii
import mimetypes
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote_to_bytes, urlsplit

from bupple_engine.exceptions import InvalidRequestError

from . import elsewhere
from .messages import Part

_SIGNATURES: list[tuple[int, bytes, str]] = [
    (0, b"\x89PNG\r\n\x1a\n", "image/png"),
    (0, b"\xff\xd8\xff", "image/jpeg"),
    (0, b"GIF8", "image/gif"),
    (8, b"WEBP", "image/webp"),
    (8, b"WAVE", "audio/wav"),
    (8, b"AIFF", "audio/aiff"),
    (4, b"ftypheic", "image/heic"),
    (4, b"ftypheix", "image/heic"),
    (4, b"ftypavif", "image/avif"),
    (4, b"ftypmif1", "image/heif"),
    (4, b"ftypM4A", "audio/mp4"),
    (0, b"%PDF-", "application/pdf"),
    (0, b"ID3", "audio/mpeg"),
    (0, b"\xff\xfb", "audio/mpeg"),
    (0, b"\xff\xf3", "audio/mpeg"),
    (0, b"\xff\xfa", "audio/mpeg"),
    (0, b"\xff\xf2", "audio/mpeg"),
    (0, b"\xff\xe3", "audio/mpeg"),
    (0, b"\xff\xf1", "audio/aac"),
    (0, b"\xff\xf9", "audio/aac"),
    (0, b"OggS", "audio/ogg"),
    (0, b"fLaC", "audio/flac"),
    (0, b"\x1aE\xdf\xa3", "audio/webm"),
]

# Labels that say more than the first bytes, which are those of a container or of a tag before the sound.
_FINER = {
    "image/png": {"image/apng", "image/vnd.mozilla.apng"},
    "image/heic": {"image/heif", "image/heic-sequence"},
    "image/heif": {"image/heic", "image/avif", "image/heif-sequence"},
    "audio/ogg": {"audio/opus", "audio/vorbis", "audio/speex"},
    "audio/mpeg": {"audio/aac", "audio/flac", "audio/x-mpegurl"},
    "audio/mp4": {"audio/aac", "audio/alac"},
    "audio/webm": {"audio/x-matroska", "audio/matroska"},
}

# Other names of a type → the one that the providers know.
_ALIASES = {
    "image/jpg": "image/jpeg",
    "image/pjpeg": "image/jpeg",
    "image/x-png": "image/png",
    "audio/mp3": "audio/mpeg",
    "audio/x-mp3": "audio/mpeg",
    "audio/x-mpeg": "audio/mpeg",
    "audio/x-wav": "audio/wav",
    "audio/wave": "audio/wav",
    "audio/vnd.wave": "audio/wav",
    "audio/m4a": "audio/mp4",
    "audio/x-m4a": "audio/mp4",
    "audio/x-flac": "audio/flac",
    "audio/x-aiff": "audio/aiff",
    "application/x-pdf": "application/pdf",
}

# The two characters that differ in the URL-safe base64 alphabet.
_URL_SAFE = bytes.maketrans(b"-_", b"+/")
_PERCENT_SLICE = 65_536

# Names that callers use as metadata["format"] and that mimetypes lacks or spells by platform.
_FORMATS = {
    "jpg": "image/jpeg",
    "webp": "image/webp",
    "mp3": "audio/mpeg",
    "wav": "audio/wav",
    "m4a": "audio/mp4",
    "ogg": "audio/ogg",
    "flac": "audio/flac",
    "md": "text/markdown",
    "docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    "pptx": "application/vnd.openxmlformats-officedocument.presentationml.presentation",
}


@dataclass(frozen=True, slots=True)
class Media:
    """A part's media: either a URL, or base64 data with its mime type."""

    part: Part
    url: str | None
    data: str
    mime_type: str | None

    @property
    def data_url(self) -> str:
        """The data as a data URL."""
        return f"data:{self.mime_type};base64,{self.data}"

    @property
    def format(self) -> str:
        """The short name of the format: png, mp3, wav, pdf."""
        known = self.part.metadata.get("format")
        if isinstance(known, str) and known and _by_name(f"x.{known.lower()}") in (None, self.mime_type):
            return known.lower()
        short = (self.mime_type or "").rpartition("/")[2].removeprefix("x-")
        return {"mpeg": "mp3", "mp4": "m4a"}.get(short, short)

    @property
    def filename(self) -> str:
        """The caller's file name, or one made from the format."""
        return str(self.part.metadata.get("filename") or f"{self.part.type}.{self.format or 'bin'}")


def resolve(part: Part) -> Media:
    """Return a part's media, or raise an InvalidRequestError if it is none or has no known type."""
    content = part.content.strip()
    scheme = content[:8].lower()
    if scheme.startswith(("http://", "https://")):
        return Media(part, content, "", _declared(part.metadata) or _by_name(urlsplit(content).path))
    if scheme.startswith("data:"):
        head, comma, payload = content[5:].partition(",")
        if not comma:
            raise _wrong(part, "is a data URL without a comma")
        mime, *parameters = (word.strip() for word in head.lower().split(";"))
        # The word may be left out: no image, sound or PDF begins as its base64 does.
        is_base64 = "base64" in (mime, *parameters) or _sniff(payload) is not None
        data = _check(part, payload) if is_base64 else _to_base64(_unquote(payload))
        label = _canonical(mime) if "/" in mime else "" if is_base64 else "text/plain"
        mime_type = _typed(data, _declared(part.metadata) or label, part.type)
        if mime_type and mime_type.startswith("text/"):
            data = _as_utf8(part, data, parameters)
    elif "://" in content[:40]:
        raise _wrong(part, f"must be an http(s) URL, a data URL or base64{_path_hint(content)}")
    else:
        data = _check(part, content)
        mime_type = _typed(data, _declared(part.metadata), part.type)
    if not data:
        raise _wrong(part, "has no data")
    mime_type = mime_type or _by_name(str(part.metadata.get("filename", "")))
    if not mime_type:
        raise _wrong(
            part,
            "has no mime type that can be told from it, if it is base64 at all; "
            f'say it in {part.where}["metadata"]["mime_type"]',
        )
    return Media(part, None, data, mime_type)


def description(part: Part) -> str:
    """Return the text that accompanies the media: its caption or description."""
    return "\n".join(str(part.metadata[key]) for key in ("caption", "description") if part.metadata.get(key))


def decode_text(media: Media) -> str:
    """Return a text document's characters; what is not UTF-8 is replaced."""
    return base64.b64decode(media.data).decode("utf-8", "replace")


def _check(part: Part, text: str) -> str:
    """Return base64 as the providers take it: the standard alphabet, padded, without white space."""
    data = _unquote(text) if "%" in text else text.encode("utf-8", "replace")
    data = data.translate(None, b" \t\r\n\v\f")
    if not (b"+" in data or b"/" in data):
        data = data.translate(_URL_SAFE)
    bare = data.rstrip(b"=")
    if len(bare) % 4 != 1:
        data = bare + b"=" * (-len(bare) % 4)  # missing or superfluous: there is only one way to read it
    try:
        binascii.a2b_base64(data, strict_mode=True)
    except (binascii.Error, ValueError):
        hint = _path_hint(text)
        raise _wrong(part, f"is neither an http(s) URL, a data URL nor base64{hint}") from None
    return data.decode("ascii")


def _unquote(text: str) -> bytes:
    """Return what a data URL's payload says, in slices: unquote_to_bytes makes an object of each escape."""
    found = bytearray()
    start = 0
    while start < len(text):
        end = start + _PERCENT_SLICE
        cut = text.rfind("%", end - 2, end)
        end = cut if cut >= 0 else end
        found += unquote_to_bytes(text[start:end])
        start = end
    return bytes(found)


def _path_hint(text: str) -> str:
    hint = elsewhere.of_path(text)
    return f"; {hint}" if hint else ""


def _to_base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _declared(metadata: Mapping[str, Any]) -> str | None:
    mime = metadata.get("mime_type")
    if isinstance(mime, str) and "/" in mime:
        return _canonical(mime)
    name = metadata.get("format")
    return _by_name(f"x.{name.lower()}") if isinstance(name, str) and name else None


def _by_name(name: str) -> str | None:
    extension = name.rpartition(".")[2].lower()
    return _FORMATS.get(extension) or mimetypes.guess_type(name)[0]


def _canonical(mime: str) -> str:
    mime = mime.strip().lower()
    return _ALIASES.get(mime, mime)


def _typed(data: str, label: str | None, kind: str) -> str | None:
    """Return the mime type of data for a part of a kind, by its first bytes before its label.

    The label stands if it says more than they do, as image/apng does, if it says that the data is text, or if
    the type that they suggest makes no sense for the part.
    """
    found = _sniff(data)
    if found is None or not label:
        return label or found
    fits = found == "application/pdf" if kind == "document" else found.startswith(f"{kind}/")
    same = label.partition("/")[0] == found.partition("/")[0]
    better = same or (fits and not label.startswith("text/"))
    return found if better and label not in _FINER.get(found, ()) else label


def _as_utf8(part: Part, data: str, parameters: list[str]) -> str:
    """Return a text's base64 in UTF-8, converted from the charset that its data URL names."""
    named = (word.partition("=")[2].strip("\"'") for word in parameters if word.startswith("charset="))
    charset = next(named, "utf-8")
    if charset in ("utf-8", "utf8", "us-ascii"):
        return data
    try:
        return _to_base64(base64.b64decode(data).decode(charset).encode())
    except (LookupError, ValueError):
        raise _wrong(part, f"is no text in {charset[:40]!r}, the charset that it names") from None


def _sniff(data: str) -> str | None:
    try:
        head = base64.b64decode(data[:64] + "=" * (-len(data[:64]) % 4))
    except ValueError:
        return None
    for offset, signature, mime in _SIGNATURES:
        if head.startswith(signature, offset):
            return mime
    return None


def _wrong(part: Part, what: str) -> InvalidRequestError:
    where = f'{part.where}["content"]'
    return InvalidRequestError(f"{where} {what}", param=where)

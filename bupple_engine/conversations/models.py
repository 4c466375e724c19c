"""The three tables; nothing of them leaves stores/database.py but as values."""

from __future__ import annotations

from typing import Any, ClassVar
from uuid import UUID

from django.core.files.storage import Storage, storages
from django.db import models, transaction
from django.db.models.signals import post_delete
from django.dispatch import receiver
from django.utils.translation import gettext_lazy as _

from bupple_engine.conf.memory import memory_settings


class Conversation(models.Model):
    """A list of turns, and who owns it; running is the whole lock."""

    objects: ClassVar[models.Manager[Conversation]] = models.Manager()

    id = models.UUIDField(primary_key=True, editable=False)
    owner_type = models.CharField(max_length=100)
    owner_id = models.CharField(max_length=100)
    client_id = models.CharField(max_length=64, null=True, blank=True)  # noqa: DJ001 - NULLs are distinct
    title = models.CharField(max_length=200, blank=True)
    system = models.TextField(blank=True)
    length = models.PositiveIntegerField(default=0)
    running = models.UUIDField(null=True, blank=True)
    leased_until = models.DateTimeField(null=True, blank=True)
    metadata = models.JSONField(default=dict, blank=True)
    created_at = models.DateTimeField()
    updated_at = models.DateTimeField()

    class Meta:
        verbose_name = _("conversation")
        verbose_name_plural = _("conversations")
        constraints = (
            models.UniqueConstraint(
                fields=["owner_type", "owner_id", "client_id"], name="bupple_conversation_client"
            ),
        )
        indexes = (
            models.Index(
                fields=["owner_type", "owner_id", "-updated_at", "-id"], name="bupple_conversation_list"
            ),
            models.Index(fields=["updated_at"], name="bupple_conversation_age"),
            models.Index(fields=["leased_until"], name="bupple_conversation_lease"),
        )

    def __str__(self) -> str:
        return self.title or str(self.id)


class Turn(models.Model):
    """A question and all that came of it.

    Branches have no foreign key to themselves: (position - 1, after) names the turn before. So a conversation
    is deleted without a row of it being loaded. Nothing writes stop and error_id yet.
    """

    objects: ClassVar[models.Manager[Turn]] = models.Manager()

    id = models.UUIDField(primary_key=True, editable=False)
    conversation = models.ForeignKey(
        Conversation, on_delete=models.CASCADE, related_name="turns", db_index=False
    )  # whose index the unique constraints are
    position = models.PositiveIntegerField()
    attempt = models.PositiveIntegerField(default=1)
    after = models.PositiveIntegerField(default=0)
    active = models.BooleanField(default=True)
    key = models.CharField(max_length=64, null=True, blank=True)  # noqa: DJ001 - NULLs are distinct
    state = models.CharField(max_length=12)
    stop = models.BooleanField(default=False)
    question = models.TextField(blank=True)
    answer = models.TextField(blank=True)
    details = models.JSONField(default=dict, blank=True)
    driver = models.CharField(max_length=100, blank=True)
    model = models.CharField(max_length=200, blank=True)
    finish_reason = models.CharField(max_length=20, blank=True)
    prompt_tokens = models.PositiveIntegerField(null=True, blank=True)
    completion_tokens = models.PositiveIntegerField(null=True, blank=True)
    total_tokens = models.PositiveIntegerField(null=True, blank=True)
    ended_by = models.CharField(max_length=12, blank=True)
    error_type = models.CharField(max_length=60, blank=True)
    error_id = models.CharField(max_length=16, blank=True)
    duration = models.FloatField(null=True, blank=True)
    created_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        verbose_name = _("turn")
        verbose_name_plural = _("turns")
        constraints = (
            models.UniqueConstraint(fields=["conversation", "position", "attempt"], name="bupple_turn_place"),
            models.UniqueConstraint(fields=["conversation", "key"], name="bupple_turn_key"),
        )

    def __str__(self) -> str:
        return str(self.id)


def media_storage() -> Storage:
    """Return the storage that MEDIA_STORAGE names."""
    return storages[memory_settings().media_storage]


def media_path(media: Media, filename: str) -> str:
    """Return where a file is put: by ids alone, since names are the users'."""
    return f"bupple/{media.conversation_id}/{media.id}"


class Media(models.Model):
    """An image, a sound or a document of a message, kept apart from the rows."""

    objects: ClassVar[models.Manager[Media]] = models.Manager()

    id = models.UUIDField(primary_key=True, editable=False)
    conversation = models.ForeignKey(
        Conversation, on_delete=models.CASCADE, related_name="media", db_index=False
    )
    conversation_id: UUID
    sha256 = models.CharField(max_length=64)
    file = models.FileField(storage=media_storage, upload_to=media_path, max_length=200)
    mime_type = models.CharField(max_length=100)
    size = models.PositiveBigIntegerField()
    filename = models.CharField(max_length=200, blank=True)
    created_at = models.DateTimeField()

    class Meta:
        verbose_name = _("media")
        verbose_name_plural = _("media")
        constraints = (
            models.UniqueConstraint(fields=["conversation", "sha256"], name="bupple_media_content"),
        )

    def __str__(self) -> str:
        return str(self.id)


@receiver(post_delete, sender=Media)
def _delete_file(instance: Media, using: str, **kwargs: Any) -> None:
    """Delete the file once its row is gone for good: by a cascade, a queryset or the admin."""
    storage, name = instance.file.storage, instance.file.name
    if name:
        transaction.on_commit(lambda: storage.delete(name), using=using, robust=True)

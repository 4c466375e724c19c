"""A list of models, in every form in which servers have one."""

from __future__ import annotations

from typing import Any

# Under which servers have their list, and in an item of it the name that a model is asked for by.
LISTS = ("data", "models", "result", "results", "items", "body", "model_list", "modelSummaries")
NAMES = ("id", "name", "model", "modelId", "model_name", "slug")


def models_in(payload: Any) -> list[Any]:
    """Return the items of a list of models; an empty object is an empty list.

    Raises KeyError or TypeError for what is another thing than a list.
    """
    inside = False
    while isinstance(payload, dict) and payload:
        found = [name for name in LISTS if name in payload]
        if not found:
            if inside and all(isinstance(item, dict) for item in payload.values()):
                return [{"id": name, **item} for name, item in payload.items()]
            if payload.get("object") == "list":
                return []  # of Go's JSON, where what is empty may be left out
            raise KeyError
        payload = payload[next((name for name in found if payload[name]), found[0])]
        inside = True
    if payload and not isinstance(payload, list):
        raise TypeError
    return [item for item in payload or () if item]  # Ollama without a model says null


def name_of(item: Any) -> str:
    """Return the name that a model in the list is asked for by."""
    if isinstance(item, str):
        return item
    name = next((item[name] for name in NAMES if item.get(name)), None)
    if not isinstance(name, str) and item.get("id") != name:
        raise TypeError
    return str(name)

"""Make the three tables."""

from typing import Any, ClassVar

import django.db.models.deletion
from django.db import migrations, models

import bupple_engine.conversations.models

# What names an owner, or what a client has named.
EXACT = {
    "bupple_conversations_conversation": {
        "owner_type": "varchar(100) {} NOT NULL",
        "owner_id": "varchar(100) {} NOT NULL",
        "client_id": "varchar(64) {} NULL",
    },
    "bupple_conversations_turn": {"key": "varchar(64) {} NULL"},
}


def tell_cases_apart(apps: Any, schema_editor: Any) -> None:
    """Compare names by their bytes: to MySQL "Ada" and "ada" are one owner, by its default."""
    if schema_editor.connection.vendor != "mysql":
        return
    quote = schema_editor.quote_name
    for table, columns in EXACT.items():
        for column, kind in columns.items():
            kind = kind.format("CHARACTER SET utf8mb4 COLLATE utf8mb4_bin")
            schema_editor.execute(f"ALTER TABLE {quote(table)} MODIFY {quote(column)} {kind}")


class Migration(migrations.Migration):
    initial = True

    operations: ClassVar = [
        migrations.CreateModel(
            name="Conversation",
            fields=[
                ("id", models.UUIDField(editable=False, primary_key=True, serialize=False)),
                ("owner_type", models.CharField(max_length=100)),
                ("owner_id", models.CharField(max_length=100)),
                ("client_id", models.CharField(blank=True, max_length=64, null=True)),
                ("title", models.CharField(blank=True, max_length=200)),
                ("system", models.TextField(blank=True)),
                ("length", models.PositiveIntegerField(default=0)),
                ("running", models.UUIDField(blank=True, null=True)),
                ("leased_until", models.DateTimeField(blank=True, null=True)),
                ("metadata", models.JSONField(blank=True, default=dict)),
                ("created_at", models.DateTimeField()),
                ("updated_at", models.DateTimeField()),
            ],
            options={
                "verbose_name": "conversation",
                "verbose_name_plural": "conversations",
                "indexes": [
                    models.Index(
                        fields=["owner_type", "owner_id", "-updated_at", "-id"],
                        name="bupple_conversation_list",
                    ),
                    models.Index(fields=["updated_at"], name="bupple_conversation_age"),
                    models.Index(fields=["leased_until"], name="bupple_conversation_lease"),
                ],
                "constraints": [
                    models.UniqueConstraint(
                        fields=("owner_type", "owner_id", "client_id"), name="bupple_conversation_client"
                    )
                ],
            },
        ),
        migrations.CreateModel(
            name="Media",
            fields=[
                ("id", models.UUIDField(editable=False, primary_key=True, serialize=False)),
                ("sha256", models.CharField(max_length=64)),
                (
                    "file",
                    models.FileField(
                        max_length=200,
                        storage=bupple_engine.conversations.models.media_storage,
                        upload_to=bupple_engine.conversations.models.media_path,
                    ),
                ),
                ("mime_type", models.CharField(max_length=100)),
                ("size", models.PositiveBigIntegerField()),
                ("filename", models.CharField(blank=True, max_length=200)),
                ("created_at", models.DateTimeField()),
                (
                    "conversation",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="media",
                        to="bupple_conversations.conversation",
                    ),
                ),
            ],
            options={
                "verbose_name": "media",
                "verbose_name_plural": "media",
                "constraints": [
                    models.UniqueConstraint(fields=("conversation", "sha256"), name="bupple_media_content")
                ],
            },
        ),
        migrations.CreateModel(
            name="Turn",
            fields=[
                ("id", models.UUIDField(editable=False, primary_key=True, serialize=False)),
                ("position", models.PositiveIntegerField()),
                ("attempt", models.PositiveIntegerField(default=1)),
                ("after", models.PositiveIntegerField(default=0)),
                ("active", models.BooleanField(default=True)),
                ("key", models.CharField(blank=True, max_length=64, null=True)),
                ("state", models.CharField(max_length=12)),
                ("stop", models.BooleanField(default=False)),
                ("question", models.TextField(blank=True)),
                ("answer", models.TextField(blank=True)),
                ("details", models.JSONField(blank=True, default=dict)),
                ("driver", models.CharField(blank=True, max_length=100)),
                ("model", models.CharField(blank=True, max_length=200)),
                ("finish_reason", models.CharField(blank=True, max_length=20)),
                ("prompt_tokens", models.PositiveIntegerField(blank=True, null=True)),
                ("completion_tokens", models.PositiveIntegerField(blank=True, null=True)),
                ("total_tokens", models.PositiveIntegerField(blank=True, null=True)),
                ("ended_by", models.CharField(blank=True, max_length=12)),
                ("error_type", models.CharField(blank=True, max_length=60)),
                ("error_id", models.CharField(blank=True, max_length=16)),
                ("duration", models.FloatField(blank=True, null=True)),
                ("created_at", models.DateTimeField()),
                ("ended_at", models.DateTimeField(blank=True, null=True)),
                (
                    "conversation",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="turns",
                        to="bupple_conversations.conversation",
                    ),
                ),
            ],
            options={
                "verbose_name": "turn",
                "verbose_name_plural": "turns",
                "constraints": [
                    models.UniqueConstraint(
                        fields=("conversation", "position", "attempt"), name="bupple_turn_place"
                    ),
                    models.UniqueConstraint(fields=("conversation", "key"), name="bupple_turn_key"),
                ],
            },
        ),
        migrations.RunPython(tell_cases_apart, migrations.RunPython.noop, atomic=False),
    ]

import time

from django.db import migrations, models


def slow(apps, schema_editor):
    """Long enough for another migrate to begin meanwhile."""
    time.sleep(1.0)


class Migration(migrations.Migration):
    initial = True
    dependencies = []
    operations = [
        migrations.CreateModel(
            name="Note",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False)),
                ("text", models.CharField(max_length=200)),
            ],
        ),
        migrations.RunPython(slow),
    ]

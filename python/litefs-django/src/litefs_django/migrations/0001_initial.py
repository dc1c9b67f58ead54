"""The model of the admin page, without a table, for its permission."""

from django.db import migrations, models


class Migration(migrations.Migration):
    """Changes nothing in the database but the permissions."""

    initial = True
    dependencies = ()
    operations = (
        migrations.CreateModel(
            name="Cluster",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False)),
            ],
            options={
                "verbose_name": "cluster",
                "verbose_name_plural": "cluster",
                "managed": False,
                "default_permissions": ("view",),
            },
        ),
    )

"""The admin page needs a model to hang on; this one has no table."""

from django.db import models


class Cluster(models.Model):
    """Its page in the admin shows the cluster; to see it takes the permission to view it."""

    class Meta:
        """No table, and one permission."""

        managed = False
        default_permissions = ("view",)
        verbose_name = "cluster"
        verbose_name_plural = "cluster"

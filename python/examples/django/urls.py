from board import views
from django.contrib import admin
from django.urls import include, path

urlpatterns = [
    path("", views.board),
    path("add", views.add),
    path("admin/", admin.site.urls),
    path("health/", include("litefs_django.urls")),
]

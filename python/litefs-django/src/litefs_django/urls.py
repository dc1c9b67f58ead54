"""`path("health/", include("litefs_django.urls"))`."""

from django.urls import path

from litefs_django import views

app_name = "litefs"
urlpatterns = [
    path("", views.health, name="health"),
    path("<slug:check>", views.health, name="check"),
]

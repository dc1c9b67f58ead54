from django.contrib import admin
from django.urls import include, path
from notes import views

urlpatterns = [
    path("admin/", admin.site.urls),
    path("health/", include("litefs_django.urls")),
    path("add/<str:text>", views.add),
    path("add-again/<str:text>", views.add_again),
    path("async/add/<str:text>", views.add_async),
    path("count", views.count),
    path("async/count", views.count_async),
    path("session", views.session),
    path("fail/<str:which>", views.fail),
]

"""The Django admin: terminals, groups, grants, users with their roles, tokens, the audit log. For admins only.

Follows: urls. Precedes: `configuration` publishes what is saved here; `modes` halts and resumes. Signals and the
global switch are in `admin_pages`: they are no tables.
"""

from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.views.main import ChangeList
from django.contrib.auth.admin import GroupAdmin, UserAdmin
from django.contrib.auth.models import Group, User
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import path

from executors import audit, configuration, modes, tokens
from executors.admin_forms import NewUserForm, TerminalForm, UserForm, role_of
from executors.admin_pages import alerts, drift, global_switch, live_states, signal, signals
from executors.admin_settlement import open_orders, settle
from executors.admin_site import AuditedAdmin
from executors.errors import Refused
from executors.models import (
    ApiToken,
    AuditEntry,
    GlobalMode,
    Member,
    SignalRecord,
    Terminal,
    TerminalGrant,
    TerminalGroup,
)
from tradedist.addresses import client_address

admin.site.site_header = "Tradedist"
admin.site.site_title = "Tradedist"
admin.site.index_title = "Administration"
admin.site.unregister(User)
admin.site.unregister(Group)


class LiveChangeList(ChangeList):
    """A page of terminals, each with what its executor says."""

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        self.result_list = list(self.result_list)
        states = live_states([terminal.pk for terminal in self.result_list])
        for terminal in self.result_list:
            terminal.live = states[terminal.pk]


@admin.register(Terminal)
class TerminalAdmin(AuditedAdmin):
    form = TerminalForm
    list_display = (
        "terminal_id",
        "label",
        "kind",
        "login",
        "server",
        "host_id",
        "sizing",
        "mode",
        "state",
    )
    list_filter = (
        "kind",
        "enabled",
        "mode",
        "host_id",
        ("retired_at", admin.EmptyFieldListFilter),
        "terminal_groups",
    )
    search_fields = ("terminal_id", "label", "login", "server")
    actions = ("halt", "reduce", "resume", "retire")
    readonly_fields = ("mode", "epoch", "version", "retired_at", "created_at", "updated_at")
    fieldsets = (
        (None, {"fields": ("terminal_id", "label", "enabled", "mode")}),
        (
            "Account",
            {"fields": ("kind", "login", "server", "password", "path", "host_id", "server_timezone")},
        ),
        ("Symbols", {"fields": ("symbols", "symbol_prefix", "symbol_suffix", "symbol_map", "tick_priority")}),
        ("Sizing", {"fields": ("sizing_method", "sizing_value")}),
        ("Limits", {"fields": ("max_lots", "max_positions", "orders_per_second", "deviation_points")}),
        (
            "Record",
            {
                "fields": ("epoch", "version", "retired_at", "created_at", "updated_at"),
                "classes": ["collapse"],
            },
        ),
    )

    @admin.display(description="sizing")
    def sizing(self, terminal: Terminal) -> str:
        value = f"{terminal.sizing_value.normalize():f}"
        return f"{value} lots" if terminal.sizing_method == Terminal.Sizing.FIXED else f"× {value}"

    @admin.display(description="state")
    def state(self, terminal: Any) -> str:
        if terminal.retired_at:
            return "retired"
        return str(terminal.live) if terminal.enabled else "switched off"

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return LiveChangeList

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        # the host changes by `manage.py move_terminal`, which proves that the old executor has ended
        return self.readonly_fields if obj is None else (*Terminal.FIXED, "host_id", *self.readonly_fields)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False  # terminals are retired

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return super().has_change_permission(request, obj) and (obj is None or obj.retired_at is None)

    def save_model(self, request: HttpRequest, obj: Terminal, form: Any, change: bool) -> None:
        super().save_model(request, obj, form, change)
        configuration.publish_after_commit([obj.pk], self.tell_failure(request))

    @admin.action(description="Halt: nothing more is sent")
    def halt(self, request: HttpRequest, chosen: "QuerySet[Terminal]") -> None:
        self._switch(request, chosen, Terminal.Mode.HALTED)

    @admin.action(description="Reduce: closes only")
    def reduce(self, request: HttpRequest, chosen: "QuerySet[Terminal]") -> None:
        self._switch(request, chosen, Terminal.Mode.REDUCING)

    @admin.action(description="Resume")
    def resume(self, request: HttpRequest, chosen: "QuerySet[Terminal]") -> None:
        self._switch(request, chosen, Terminal.Mode.ACTIVE)

    def _switch(self, request: HttpRequest, chosen: "QuerySet[Terminal]", mode: str) -> None:
        ids = list(chosen.filter(retired_at=None).values_list("pk", flat=True))
        try:
            done = modes.switch_terminals(
                request.user, ids, mode, reason="in the admin", address=client_address(request)
            )
        except Refused as refused:
            messages.error(request, refused.message)
            return
        messages.success(request, f"{mode}: {', '.join(done.terminal_ids) or 'none'}")
        if done.trouble:
            messages.warning(request, done.trouble)

    @admin.action(description="Retire: out of use for good; the id is never used again")
    def retire(self, request: HttpRequest, chosen: "QuerySet[Terminal]") -> None:
        with transaction.atomic():
            retired = list(chosen.filter(retired_at=None))
            for terminal in retired:
                terminal.retire()
                audit.append(
                    request.user,
                    "terminal retired",
                    f"terminal {terminal.pk}",
                    address=client_address(request),
                )
            configuration.publish_after_commit(
                [terminal.pk for terminal in retired], self.tell_failure(request)
            )
        messages.success(request, f"Retired: {', '.join(terminal.pk for terminal in retired) or 'none'}")


@admin.register(TerminalGroup)
class TerminalGroupAdmin(AuditedAdmin):
    list_display = ("slug", "label", "members")
    search_fields = ("slug", "label", "terminals__terminal_id")
    filter_horizontal = ("terminals",)

    @admin.display(description="terminals")
    def members(self, group: TerminalGroup) -> str:
        return ", ".join(terminal.pk for terminal in group.terminals.all())

    def get_queryset(self, request: HttpRequest) -> Any:
        return super().get_queryset(request).prefetch_related("terminals")

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return () if obj is None else ("slug",)

    def formfield_for_manytomany(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        if db_field.name == "terminals":
            kwargs["queryset"] = Terminal.objects.active()
        return super().formfield_for_manytomany(db_field, request, **kwargs)


@admin.register(TerminalGrant)
class TerminalGrantAdmin(AuditedAdmin):
    list_display = ("who", "what", "level", "created_at")
    list_filter = ("level", "terminal_group")
    search_fields = ("user__username", "user_group__name", "terminal__terminal_id", "terminal_group__slug")
    autocomplete_fields = ("user", "terminal", "terminal_group")
    list_select_related = ("user", "user_group", "terminal", "terminal_group")
    fieldsets = (
        ("Who: a user, or a group of users", {"fields": ("user", "user_group")}),
        ("What: a terminal, or a group of terminals", {"fields": ("terminal", "terminal_group")}),
        (None, {"fields": ("level",)}),
    )

    @admin.display(description="who", ordering="user__username")
    def who(self, grant: TerminalGrant) -> str:
        return str(grant.user) if grant.user else f"group {grant.user_group}"

    @admin.display(description="may use")
    def what(self, grant: TerminalGrant) -> str:
        return str(grant.terminal) if grant.terminal else f"group {grant.terminal_group}"


@admin.register(User)
class MemberAdmin(AuditedAdmin, UserAdmin):
    form = UserForm
    add_form = NewUserForm
    list_display = ("username", "role", "is_active", "email", "last_login")
    list_filter = ("member__role", "is_active", "groups")
    list_select_related = ("member",)
    filter_horizontal = ("groups",)
    readonly_fields = ("last_login", "date_joined")
    fieldsets = (
        (None, {"fields": ("username", "password")}),
        ("Role", {"fields": ("role", "is_active", "groups")}),
        ("Person", {"fields": ("first_name", "last_name", "email")}),
        ("Dates", {"fields": ("last_login", "date_joined")}),
    )
    add_fieldsets = (
        (None, {"classes": ("wide",), "fields": ("username", "role", "password1", "password2")}),
    )

    @admin.display(description="role", ordering="member__role")
    def role(self, user: User) -> str:
        return role_of(user)

    def save_model(self, request: HttpRequest, obj: User, form: Any, change: bool) -> None:
        role = form.cleaned_data.get("role")
        if role is None:  # the form that sets a password
            super().save_model(request, obj, form, change)
            return
        if obj.pk == request.user.pk and (role != Member.Role.ADMIN or not obj.is_active):
            messages.error(request, "You cannot take the admin role, or your account, from yourself.")
            role, obj.is_active = Member.Role.ADMIN, True
        obj.is_staff = obj.is_superuser = role == Member.Role.ADMIN
        super().save_model(request, obj, form, change)
        Member.objects.update_or_create(user=obj, defaults={"role": role})

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False  # orders name their users: an account is deactivated


@admin.register(Group)
class UserGroupAdmin(AuditedAdmin, GroupAdmin):
    """Groups of users, for grants. Django's own permissions are not used: roles decide."""

    fields = ("name",)
    filter_horizontal = ()


@admin.register(ApiToken)
class ApiTokenAdmin(admin.ModelAdmin):  # `tokens` writes the audit entries
    list_display = ("name", "user", "scope", "created_at", "expires_at", "last_used_at", "revoked_at")
    list_filter = ("scope", ("revoked_at", admin.EmptyFieldListFilter))
    search_fields = ("name", "user__username")
    autocomplete_fields = ("user",)
    list_select_related = ("user",)
    actions = ("revoke",)
    fields = ("user", "name", "scope", "expires_at")

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False  # revoked ones stay, so that it can be seen what they were

    def save_model(self, request: HttpRequest, obj: ApiToken, form: Any, change: bool) -> None:
        text = tokens.fill(obj)
        super().save_model(request, obj, form, change)
        tokens.note_creation(obj, actor=request.user)
        request.new_token = text  # type: ignore[attr-defined]  # only for the answer to this request

    def response_add(
        self, request: HttpRequest, obj: ApiToken, post_url_continue: Any = None
    ) -> HttpResponse:
        """Shows the token in this answer alone: a message would keep it in a cookie."""
        text = request.new_token  # type: ignore[attr-defined]  # as above
        context = {
            **self.admin_site.each_context(request),
            "title": "New API token",
            "text": text,
            "token": obj,
        }
        response = TemplateResponse(request, "admin/executors/token.html", context)
        response["Cache-Control"] = "no-store"
        return response

    @admin.action(description="Revoke")
    def revoke(self, request: HttpRequest, chosen: "QuerySet[ApiToken]") -> None:
        for token in chosen:
            tokens.revoke(token, actor=request.user)
        messages.success(request, f"{len(chosen)} revoked; they are refused from the next request on.")


class ReadOnlyAdmin(admin.ModelAdmin):
    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(AuditEntry)
class AuditEntryAdmin(ReadOnlyAdmin):
    list_display = ("position", "time", "username", "action", "target", "address")
    list_filter = ("action", "time")
    search_fields = ("username", "action", "target")
    list_display_links = ("position",)
    fields = ("position", "time", "username", "address", "action", "target", "detail", "previous", "hash")


@admin.register(GlobalMode)
class GlobalModeAdmin(ReadOnlyAdmin):
    """The switch for all terminals at once."""

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        return global_switch(request, self.admin_site)


@admin.register(SignalRecord)
class SignalRecordAdmin(ReadOnlyAdmin):
    """Signals as the state Redis has them: this is no table. Below them, orders are settled by hand."""

    def get_urls(self) -> list[Any]:
        site = self.admin_site
        own = [
            path("alerts/", site.admin_view(lambda request: alerts(request, site)), name="executors_alerts"),
            path("drift/", site.admin_view(lambda request: drift(request, site)), name="executors_drift"),
            path(
                "settle/",
                site.admin_view(lambda request: open_orders(request, site)),
                name="executors_settle_list",
            ),
            path(
                "settle/<str:order_id>/",
                site.admin_view(lambda request, order_id: settle(request, site, order_id)),
                name="executors_settle",
            ),
        ]
        return own + super().get_urls()

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        return signals(request, self.admin_site)

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        return signal(request, self.admin_site, object_id)

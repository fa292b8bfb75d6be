//! The routes of the web page.

use crate::api::route::Caller::{Anyone, Viewer};
use crate::api::route::RouteMethod::{Get, Post};
use crate::api::route::UiEndpoint as Ui;
use crate::api::route::{Operation, Route};
use crate::api::routes::entries::{route, ui};

/// Every route of the web page.
pub(super) static UI_ROUTES: &[Route] = &[
    route("/", &[ui(Get, "uiStart", "Leads to the first page.", Anyone, Ui::Start)]),
    route("/ui", &[ui(Get, "uiBegin", "Leads to the first page.", Anyone, Ui::Start)]),
    route(
        "/ui/login",
        &[
            ui(Get, "uiLogin", "Returns the login page.", Anyone, Ui::Login),
            ui(Post, "uiLogIn", "Logs in with a token.", Anyone, Ui::LogIn),
        ],
    ),
    route("/ui/logout", &[ui(Post, "uiLogOut", "Logs out.", Anyone, Ui::LogOut)]),
    route("/ui/assets/{version}/{file}", &[ui(Get, "uiAsset", "Returns a file.", Anyone, Ui::Asset)]),
    route("/ui/rows", &[ui(Get, "uiRows", "Returns the rows of all objects.", Viewer, Ui::Rows)]),
    route("/ui/events", &[ui(Get, "uiEvents", "Streams the changed rows.", Viewer, Ui::Events)]),
    route("/ui/hosts", &[page("uiHosts", "Returns the page of all hosts.", Ui::Hosts)]),
    route("/ui/hosts/{namespace}/{name}", &[page("uiHost", "Returns the page of a host.", Ui::Host)]),
    route("/ui/isos", &[page("uiIsos", "Returns the page of all ISOs.", Ui::Isos)]),
    route("/ui/configs", &[page("uiConfigs", "Returns the page of all boot configs.", Ui::Configs)]),
    route("/ui/network", &[page("uiNetwork", "Returns the page of the network.", Ui::Network)]),
    route("/ui/activity", &[page("uiActivity", "Returns the page of the timeline.", Ui::Activity)]),
    route("/ui/settings", &[page("uiSettings", "Returns the page of the settings in force.", Ui::Settings)]),
];

const fn page(id: &'static str, summary: &'static str, endpoint: Ui) -> Operation {
    ui(Get, id, summary, Anyone, endpoint)
}

//! What all pages share: the document, the navigation, and the dialogs.

use maud::{DOCTYPE, Markup, html};

use crate::ui::assets;

/// The navigation: the path of each page and its title.
const NAVIGATION: [(&str, &str); 6] = [
    ("/ui/hosts", "Hosts"),
    ("/ui/isos", "ISOs"),
    ("/ui/configs", "Configs"),
    ("/ui/network", "Network"),
    ("/ui/activity", "Activity"),
    ("/ui/settings", "Settings"),
];
/// The keys that all pages know, for the help dialog.
const KEYS: [(&str, &str); 8] = [
    ("/", "search"),
    ("j k", "next, previous row"),
    ("x", "select the row"),
    ("Enter", "open the row"),
    ("a", "approve the row's machine, or assign an ISO"),
    ("i", "ignore the row's new machine"),
    ("r", "reinstall the row's host"),
    ("?", "this help"),
];

/// The client of a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Viewer {
    /// Reads only.
    Reader,
    /// Reads and writes.
    Admin,
}

impl Viewer {
    /// Returns the role's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Reader => "viewer",
            Self::Admin => "admin",
        }
    }
}

/// Returns a document.
fn document(title: &str, page: &str, viewer: Option<Viewer>, content: &Markup) -> String {
    let (module, modules) = assets::modules(page);
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) " · bootlatch" }
                link rel="icon" href=(assets::path("icon.svg"));
                link rel="stylesheet" href=(assets::path("app.css"));
                @for name in &modules { link rel="modulepreload" href=(assets::path(name)); }
                script type="module" src=(assets::path(module)) {}
            }
            body data-role=(viewer.map(Viewer::as_str).unwrap_or_default()) data-assets=(assets::VERSION) {
                (content)
            }
        }
    }
    .into_string()
}

/// Returns a page of the application.
pub fn page(title: &str, name: &str, viewer: Viewer, content: &Markup) -> String {
    let section = match name {
        "host" => "/ui/hosts".to_owned(),
        name => format!("/ui/{name}"),
    };
    let body = html! {
        a.skip href="#main" { "Skip to content" }
        header.top {
            a.brand href="/ui/hosts" { "bootlatch" }
            nav aria-label="Pages" {
                @for (target, title) in NAVIGATION {
                    a href=(target) aria-current=[(section == target).then_some("page")] { (title) }
                }
            }
            span.live role="status" #live data-state="connecting" { "connecting" }
            button.quiet type="button" #theme aria-label="Switch between dark and light" { "◐" }
            button.quiet type="button" #help-button aria-label="Keyboard shortcuts" { "?" }
            form method="post" action="/ui/logout" { button.quiet type="submit" { "Log out" } }
        }
        main #main tabindex="-1" {
            @if viewer == Viewer::Reader {
                p.notice { "You are logged in as a viewer: you see everything and change nothing." }
            }
            ul.uploads #uploads aria-label="Uploads" {}
            (content)
        }
        div #toasts role="log" aria-label="Messages" {}
        div #menu popover="auto" role="menu" aria-label="Actions" {}
        dialog #dialog aria-labelledby="dialog-title" {}
        dialog #help aria-labelledby="help-title" {
            h2 #help-title { "Keyboard" }
            dl.keys { @for (key, meaning) in KEYS { dt { kbd { (key) } } dd { (meaning) } } }
            form method="dialog" { button autofocus { "Close" } }
        }
    };
    document(title, name, Some(viewer), &body)
}

/// Returns the login page. `next` is the page to open afterwards.
pub fn login(next: &str, error: Option<&str>) -> String {
    let body = html! {
        main.login #main {
            h1 { "bootlatch" }
            form method="post" action="/ui/login" {
                label for="token" { "Token" }
                input #token name="token" type="password" autocomplete="current-password" required autofocus
                    aria-describedby="token-help" aria-invalid=[error.map(|_| "true")];
                @if let Some(error) = error { p.error role="alert" { (error) } }
                p.hint #token-help {
                    "The content of " code { "admin.token" } " or " code { "viewer.token" }
                    " in the server's state directory."
                }
                input type="hidden" name="next" value=(next);
                button.primary type="submit" { "Log in" }
            }
        }
    };
    document("Log in", "login", None, &body)
}

/// Returns the page that says why a request was refused.
pub fn refusal(message: &str) -> String {
    let body = html! {
        main.login #main {
            h1 { "bootlatch" }
            p.error role="alert" { (message) }
            p { a href="/ui/login" { "Log in" } }
        }
    };
    document("Refused", "login", None, &body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_escape_what_they_show_and_have_no_inline_code() {
        let page = login("/ui/hosts\"><script>", Some("<b>"));
        assert!(page.contains("&lt;b&gt;") && !page.contains("<b>") && !page.contains("\"><script>"));
        let page = super::page("Hosts", "hosts", Viewer::Reader, &html! { p { "x" } });
        assert!(page.contains("aria-current=\"page\"") && page.contains("data-role=\"viewer\""));
        for inline in ["style=", "onclick", "<style", "javascript:"] {
            assert!(!page.contains(inline), "{inline}");
        }
    }
}

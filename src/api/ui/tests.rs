use bytes::Bytes;
use hyper::Response;
use hyper::header::{COOKIE, HOST, HeaderName};

use super::*;
use crate::api::fixture::{ApiFixture, host, peer, status_and_text};
use crate::fleet::Kind;
use crate::http::peer::Serves;

const FORM: &str = "application/x-www-form-urlencoded";

fn name(text: &'static str) -> HeaderName {
    HeaderName::from_static(text)
}

async fn send(
    api: &ApiFixture,
    method: &str,
    path: &str,
    fields: &[(&'static str, &str)],
    body: &str,
) -> Response<Bytes> {
    let fields: Vec<_> = fields.iter().map(|(field, value)| (name(field), *value)).collect();
    api.send(Serves::Everything, peer([10, 77, 0, 99]), method, path, &fields, body).await
}

async fn log_in(api: &ApiFixture, token: &str) -> String {
    let fields = [("content-type", FORM), ("sec-fetch-site", "same-origin")];
    let reply = send(api, "POST", "/ui/login", &fields, &format!("token={token}%0A&next=/ui/hosts?q=a")).await;
    assert_eq!(reply.status(), StatusCode::SEE_OTHER);
    assert_eq!(reply.headers()[LOCATION], "/ui/hosts?q=a");
    let cookie = reply.headers()[SET_COOKIE].to_str().unwrap();
    assert!(cookie.contains("HttpOnly; SameSite=Strict"), "{cookie}");
    cookie.split(';').next().unwrap().to_owned()
}

#[tokio::test]
async fn a_browser_logs_in_and_its_pages_may_write() {
    let api = ApiFixture::new();
    api.put(Kind::BareMetalHost, host(serde_json::json!({}))).await;
    let reply = send(&api, "GET", "/ui/hosts", &[], "").await;
    assert_eq!(reply.status(), StatusCode::SEE_OTHER);
    assert_eq!(reply.headers()[LOCATION], "/ui/login?next=%2Fui%2Fhosts");
    let fields = [("content-type", FORM), ("sec-fetch-site", "same-origin")];
    let reply = send(&api, "POST", "/ui/login", &fields, "token=x&next=//evil.example/").await;
    assert_eq!(reply.status(), StatusCode::UNAUTHORIZED);
    assert!(status_and_text(&reply).1.contains("not a valid token") && !status_and_text(&reply).1.contains("evil"));
    for (site, expected) in [("cross-site", 403), ("same-site", 403), ("same-origin", 303)] {
        let fields = [("content-type", FORM), ("sec-fetch-site", site)];
        let reply = send(&api, "POST", "/ui/login", &fields, &format!("token={}", api.admin)).await;
        assert_eq!(reply.status(), expected, "{site}");
    }
    let path = "/api/v1/namespaces/default/baremetalhosts/vm/hold";
    let (admin, viewer) = (log_in(&api, &api.admin).await, log_in(&api, &api.viewer).await);
    let rows = [(&admin, "same-site", 401), (&viewer, "same-origin", 403), (&admin, "same-origin", 200)];
    for (cookie, site, expected) in rows {
        let reply = send(&api, "POST", path, &[("cookie", cookie), ("sec-fetch-site", site)], "").await;
        assert_eq!(reply.status(), expected, "{cookie} {site}");
    }
    let reply = send(&api, "POST", path, &[("cookie", &admin)], "").await;
    assert_eq!(reply.status(), 403, "no proof of the page that sends it");
    for (cookie, role) in [(&admin, "admin"), (&viewer, "viewer")] {
        let reply = send(&api, "GET", "/ui/hosts", &[("cookie", cookie)], "").await;
        assert!(status_and_text(&reply).1.contains(&format!("data-role=\"{role}\"")));
        assert_eq!(reply.headers()[CONTENT_SECURITY_POLICY], POLICY);
    }
    let reply = send(&api, "POST", "/ui/logout", &[("cookie", &admin), ("sec-fetch-site", "same-origin")], "").await;
    assert!(reply.headers()[SET_COOKIE].to_str().unwrap().contains("Max-Age=0"));
}

#[tokio::test]
async fn rows_and_events_need_a_login_and_a_position() {
    let api = ApiFixture::new();
    api.put(Kind::BareMetalHost, host(serde_json::json!({}))).await;
    for path in ["/ui/rows", "/ui/events?since=0"] {
        assert_eq!(send(&api, "GET", path, &[], "").await.status(), 401, "{path}");
    }
    let cookie = log_in(&api, &api.viewer).await;
    let get = async |path: &str| send(&api, "GET", path, &[("cookie", &cookie)], "").await;
    let rows: serde_json::Value = serde_json::from_slice(get("/ui/rows").await.body()).unwrap();
    assert_eq!(rows["hosts"][0]["id"], "default/vm");
    assert!(rows["version"].as_u64().unwrap() > 0);
    for (path, expected) in [("/ui/events", 400), ("/ui/events?since=999", 410)] {
        assert_eq!(get(path).await.status(), expected, "{path}");
    }
}

#[tokio::test]
async fn files_are_compressed_and_kept_by_version() {
    let api = ApiFixture::new();
    let path = assets::path("app.css");
    let packed = send(&api, "GET", &path, &[("accept-encoding", "br, gzip")], "").await;
    assert_eq!(packed.headers()[CONTENT_ENCODING], "gzip");
    assert!(packed.headers()[CACHE_CONTROL].to_str().unwrap().contains("immutable"));
    let plain = send(&api, "GET", "/ui/assets/old/app.css", &[("accept-encoding", "gzip;q=0")], "").await;
    assert!(!plain.headers().contains_key(CONTENT_ENCODING) && plain.body().len() > packed.body().len());
    assert_eq!(plain.headers()[CACHE_CONTROL], "no-store");
    assert_eq!(send(&api, "GET", "/ui/assets/old/x.js", &[], "").await.status(), 404);
    let machines =
        api.send(Serves::Machines, peer([10, 77, 0, 99]), "GET", &path, &[(COOKIE, "a=b"), (HOST, "a")], "").await;
    assert_eq!(machines.status(), 404);
}

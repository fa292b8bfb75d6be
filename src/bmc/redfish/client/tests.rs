use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;

const SYSTEM: &str = r##"{"PowerState": "On", "Actions": {"#ComputerSystem.Reset": {"target": "/reset",
    "ResetType@Redfish.AllowableValues": ["On", "ForceOff"]}}}"##;

fn reply(head: &str, body: &str) -> String {
    format!("HTTP/1.1 {head}\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

fn redirect(location: &str) -> String {
    reply(&format!("302 Found\r\nLocation: {location}"), "")
}

/// Runs a request against a service with these replies, one a connection. Returns its result and the heads of the
/// requests.
async fn with_heads<T>(
    replies: Vec<String>,
    ask: impl AsyncFnOnce(&RedfishService<'_>) -> Result<T, BmcError>,
) -> (Result<T, BmcError>, Vec<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let heads = Arc::new(Mutex::new(Vec::new()));
    let seen = heads.clone();
    let serving = tokio::spawn(async move {
        for reply in replies {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = Vec::new();
            while !head.windows(4).any(|end| end == b"\r\n\r\n") {
                assert_ne!(stream.read_buf(&mut head).await.unwrap(), 0, "the client closed the connection");
            }
            seen.lock().unwrap().push(String::from_utf8_lossy(&head).into_owned());
            stream.write_all(reply.as_bytes()).await.unwrap();
        }
    });
    let address = format!("redfish+http://127.0.0.1:{port}/sys");
    let at: BmcAddress = address.parse().unwrap();
    let bmc = Bmc::new(address, "admin", Default::default());
    let result = ask(&RedfishService::new(&bmc, &at, None)).await;
    serving.abort();
    let heads = heads.lock().unwrap().clone();
    (result, heads)
}

async fn with_errors<T>(
    replies: Vec<String>,
    ask: impl AsyncFnOnce(&RedfishService<'_>) -> Result<T, BmcError>,
) -> Result<T, BmcError> {
    with_heads(replies, ask).await.0
}

/// Runs a request as `with_heads`. Returns the text of its error, and the paths that were requested.
async fn with_replies<T>(
    replies: Vec<String>,
    ask: impl AsyncFnOnce(&RedfishService<'_>) -> Result<T, BmcError>,
) -> (Result<T, String>, Vec<String>) {
    let (result, heads) = with_heads(replies, ask).await;
    let text = |error: BmcError| {
        let (before, after) =
            error.to_string().split_once("127.0.0.1:").map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
        format!("{before}AT{}", after.trim_start_matches(|digit: char| digit.is_ascii_digit()))
    };
    let paths = heads.iter().map(|head| head.split(' ').nth(1).unwrap().to_owned()).collect();
    (result.map_err(text), paths)
}

#[tokio::test]
async fn a_refusal_says_whether_another_attempt_helps() {
    let body = |id: &str| json!({"error": {"@Message.ExtendedInfo": [{"MessageId": format!("Base.1.8.{id}")}]}});
    for (head, id, reason) in [
        ("503 Service Unavailable\r\nRetry-After: 30", "", "Busy"),
        ("409 Conflict", "GeneralError", "Busy"),
        ("429 Too Many Requests", "", "Busy"),
        ("400 Bad Request", "ResourceInUse", "Busy"),
        ("400 Bad Request", "ActionParameterNotSupported", "NotSupported"),
        ("405 Method Not Allowed", "", "NotSupported"),
        ("400 Bad Request", "GeneralError", "Refused"),
        ("500 Internal Server Error", "", "Refused"),
        ("401 Unauthorized", "", "Refused"),
    ] {
        let mut answer = reply(head, &body(id).to_string());
        answer.insert_str(answer.find("\r\n").unwrap(), "\r\nConnection: close");
        let error = with_errors(vec![answer], async |service| service.read_power().await).await.unwrap_err();
        assert_eq!(error.reason(), reason, "{head} {id}");
        match &error {
            BmcError::Busy { retry_after, .. } => assert_eq!(retry_after.is_some(), head.contains("Retry")),
            BmcError::Denied { .. } => assert!(head.starts_with("401")),
            _ => {}
        }
    }
}

#[tokio::test]
async fn a_write_names_the_version_that_was_read() {
    let system = |tag: &str| reply(&format!("200 OK\r\nETag: {tag}"), SYSTEM);
    let changed = || reply("412 Precondition Failed", "");
    let done = || reply("204 No Content", "");
    let set = async |replies: Vec<String>| {
        let (result, heads) = with_heads(replies, async |service| {
            service.set_boot_device(BootDevice::Network, true, Some(FirmwareMode::Uefi)).await
        })
        .await;
        let tag = |head: &String| {
            let (_, tag) = head.split_once("if-match: ")?;
            tag.split_once("\r\n").map(|(tag, _)| tag.to_owned())
        };
        let writes: Vec<_> = heads.iter().filter(|head| head.starts_with("PATCH")).map(tag).collect();
        (result.map_err(|error| error.reason()), writes)
    };
    let tags = |tags: &[Option<&str>]| tags.iter().map(|tag| tag.map(str::to_owned)).collect::<Vec<_>>();
    let read = |tag| [system(tag)];
    let once = set([&read("\"1\"")[..], &[done()]].concat()).await;
    assert_eq!(once, (Ok(()), tags(&[Some("\"1\"")])));
    // Somebody else changed it: it is read again.
    let twice = set([&read("\"1\"")[..], &[changed()], &read("\"2\""), &[done()]].concat()).await;
    assert_eq!(twice, (Ok(()), tags(&[Some("\"1\""), Some("\"2\"")])));
    // A service that never matches its own weak tag.
    let weak = read("W/\"1\"");
    let odd = set([&weak[..], &[changed()], &weak, &[changed()], &weak, &[done()]].concat()).await;
    assert_eq!(odd, (Ok(()), tags(&[Some("W/\"1\""), Some("\"1\""), None])));
}

#[tokio::test]
async fn boot_settings_are_in_the_words_of_the_service() {
    let settings = async |boot: Value, device, mode| {
        with_errors(Vec::new(), async |service| service.boot_settings(&boot, device, true, mode)).await
    };
    let targets = |values: &[&str]| json!({"BootSourceOverrideTarget@Redfish.AllowableValues": values});
    let uefi = Some(FirmwareMode::Uefi);
    let found = settings(targets(&["None", "UefiHttp"]), BootDevice::Network, uefi).await.unwrap();
    assert_eq!(Value::from(found), json!({"BootSourceOverrideEnabled": "Once", TARGET: "UefiHttp"}));
    let found = settings(json!({MODE: "Legacy"}), BootDevice::Disk, uefi).await.unwrap();
    assert_eq!(Value::from(found), json!({"BootSourceOverrideEnabled": "Once", TARGET: "Hdd", MODE: "UEFI"}));
    let refused = settings(targets(&["None", "Cd"]), BootDevice::Network, uefi).await.unwrap_err();
    assert_eq!(refused.reason(), "NotSupported");
}

#[tokio::test]
async fn reset_types_are_read_from_the_action_info() {
    let system = json!({"Actions": {"#ComputerSystem.Reset": {"target": "/reset", "@Redfish.ActionInfo": "/info"}}});
    let info = json!({"Parameters": [{"Name": "ResetType", "AllowableValues": ["ForceOff"]}]});
    let replies = [reply("200 OK", &system.to_string()), reply("200 OK", &info.to_string())];
    let (result, paths) = with_replies(replies.to_vec(), async |service| service.reset(Reset::On).await).await;
    assert_eq!(result, Err("BMC AT: not supported: reset type On; allowable values: ForceOff".to_owned()));
    assert_eq!(paths, ["/sys", "/info"]);
}

async fn read_power(replies: &[String]) -> (Result<Power, String>, Vec<String>) {
    with_replies(replies.to_vec(), async |service| service.read_power().await).await
}

#[tokio::test]
async fn a_reply_that_is_not_json_is_reported_as_it_is() {
    let rows = [
        (reply("200 OK\r\nContent-Type: text/html; charset=utf-8", "<html>"), "answered 200 with text/html, not JSON"),
        (
            reply("200 OK\r\nContent-Type: application/json", "{"),
            "answered 200 with application/json that cannot be parsed",
        ),
        (reply("200 OK", "On"), "answered 200 with a body that is not JSON"),
        (reply("200 OK", ""), "answered 200 without a body, expected JSON"),
    ];
    for (reply, expected) in rows {
        let (result, _) = read_power(&[reply]).await;
        assert_eq!(result, Err(format!("BMC AT: invalid reply: {expected}")));
    }
    let refused = reply("404 Not Found\r\nContent-Type: text/html", "<html>");
    assert_eq!(read_power(&[refused]).await.0, Err("BMC AT: request refused: 404 Not Found".to_owned()));
    let unknown = reply("200 OK", r#"{"PowerState": "Odd"}"#);
    assert_eq!(read_power(&[unknown]).await.0, Err("BMC AT: not supported: power state \"Odd\"".to_owned()));
}

#[tokio::test]
async fn three_redirects_are_followed_and_a_fourth_is_reported() {
    let three = [redirect("/a/"), redirect("b"), redirect("http://other/c?d")];
    let (result, paths) = read_power(&[&three[..], &[reply("200 OK", SYSTEM)]].concat()).await;
    assert_eq!(result, Ok(Power::On));
    assert_eq!(paths, ["/sys", "/a/", "/a/b", "/c?d"]);
    let (result, paths) = read_power(&[&three[..], &[redirect("/last")]].concat()).await;
    assert_eq!(result, Err("BMC AT: invalid reply: more than 3 redirects; the last one to /last".to_owned()));
    assert_eq!(paths.len(), 4);
}

#[tokio::test]
async fn a_reset_that_the_service_does_not_offer_is_named_with_those_it_does() {
    let reset = async |reset, replies: &[String]| {
        with_replies(replies.to_vec(), async |service| service.reset(reset).await).await
    };
    let system = reply("200 OK", SYSTEM);
    let (result, paths) = reset(Reset::Nmi, std::slice::from_ref(&system)).await;
    assert_eq!(result, Err("BMC AT: not supported: reset type Nmi; allowable values: On, ForceOff".to_owned()));
    assert_eq!(paths, ["/sys"]);
    for done in [reply("204 No Content", ""), reply("200 OK", ""), reply("202 Accepted", "{}")] {
        let (result, paths) = reset(Reset::ForceOff, &[system.clone(), done]).await;
        assert_eq!((result, paths.last().map(String::as_str)), (Ok(()), Some("/reset")));
    }
}

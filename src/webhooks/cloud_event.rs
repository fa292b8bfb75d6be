//! Notifications as CloudEvents 1.0, in the JSON format of the structured mode.

use serde::Serialize;
use serde_json::{Map, Value};

use crate::event::Notification;
use crate::fleet::{Mac, Name};

/// Media type of a CloudEvent in the JSON format (CloudEvents JSON format, section 3).
pub const MEDIA_TYPE: &str = "application/cloudevents+json; charset=utf-8";
/// The start of each type; the code of the kind follows.
const TYPE_PREFIX: &str = "org.bootlatch.host.";

/// A CloudEvent (CloudEvents 1.0, section 3).
#[derive(Debug, Serialize)]
struct CloudEvent<'a> {
    specversion: &'static str,
    id: String,
    source: &'a str,
    #[serde(rename = "type")]
    kind: String,
    subject: String,
    time: String,
    datacontenttype: &'static str,
    data: Data<'a>,
}

#[derive(Debug, Serialize)]
struct Data<'a> {
    mac: Mac,
    host: Option<&'a Name>,
    #[serde(flatten)]
    detail: Map<String, Value>,
}

/// Returns a notification as a CloudEvent. `source` is the URL of this server.
pub fn encode(notification: &Notification, source: &str) -> serde_json::Result<String> {
    let Notification { id, time, mac, host, detail } = notification;
    let detail = match serde_json::to_value(detail)?.get_mut("detail").map(Value::take) {
        Some(Value::Object(fields)) => fields,
        _ => Map::new(),
    };
    serde_json::to_string(&CloudEvent {
        specversion: "1.0",
        id: id.to_string(),
        source,
        kind: format!("{TYPE_PREFIX}{}", notification.kind()),
        subject: host.as_ref().map_or_else(|| mac.to_string(), Name::to_string),
        // Some receivers read no more than microseconds.
        time: format!("{time:.3}"),
        datacontenttype: "application/json",
        data: Data { mac: *mac, host: host.as_ref(), detail },
    })
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use uuid::Uuid;

    use super::*;
    use crate::event::NotificationDetail;
    use crate::fleet::Phase;

    #[test]
    fn a_notification_is_a_cloud_event() {
        let notification = Notification {
            id: Uuid::from_u128(7),
            time: Timestamp::from_millisecond(1_500).unwrap(),
            mac: Mac([2, 0, 0, 0, 0, 1]),
            host: "vm".parse().ok(),
            detail: NotificationDetail::PhaseChanged {
                phase: Phase::Failed,
                previous_phase: Some(Phase::Installing),
                image: "live".parse().ok(),
                config: None,
                message: Some("no report within 1h".into()),
            },
        };
        let expected = serde_json::json!({
            "specversion": "1.0",
            "id": "00000000-0000-0000-0000-000000000007",
            "source": "http://10.0.0.1",
            "type": "org.bootlatch.host.phase_changed",
            "subject": "vm",
            "time": "1970-01-01T00:00:01.500Z",
            "datacontenttype": "application/json",
            "data": {
                "mac": "02:00:00:00:00:01", "host": "vm", "phase": "Failed", "previousPhase": "Installing", "image": "live",
                "message": "no report within 1h",
            },
        });
        let text = encode(&notification, "http://10.0.0.1").unwrap();
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), expected);
        let unnamed = encode(&Notification { host: None, ..notification }, "http://10.0.0.1").unwrap();
        assert!(unnamed.contains(r#""subject":"02:00:00:00:00:01""#), "{unnamed}");
    }
}

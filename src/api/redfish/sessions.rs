//! Redfish sessions and their tokens.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::api::auth::Role;

/// Maximum number of sessions. A new session replaces the viewer's session that was idle longest; an admin's session
/// can also replace another admin's.
const MAX_SESSIONS: usize = 256;
/// Time after which an idle session ends.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(1800);

/// Sessions by their `X-Auth-Token` (DSP0266, section 13.3.4).
#[derive(Debug, Default)]
pub struct Sessions(Mutex<HashMap<String, Session>>);

#[derive(Debug, Clone)]
struct Session {
    id: String,
    user: String,
    role: Role,
    used: Instant,
}

impl Sessions {
    /// Begins a session, and returns its id and its token; `None` if a viewer's session would have to end an admin's.
    pub fn begin(&self, user: &str, role: Role, now: Instant) -> Option<(String, String)> {
        let mut sessions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.retain(|_, session| now.duration_since(session.used) < IDLE_TIMEOUT);
        if sessions.len() >= MAX_SESSIONS {
            let lesser = sessions.iter().filter(|(_, one)| one.role <= role);
            let oldest = lesser.min_by_key(|(_, one)| (one.role, one.used)).map(|(token, _)| token.clone())?;
            sessions.remove(&oldest);
        }
        let token = format!("{}{}", uuid::Uuid::new_v4().simple(), uuid::Uuid::new_v4().simple());
        let id = uuid::Uuid::new_v4().simple().to_string();
        sessions.insert(token.clone(), Session { id: id.clone(), user: user.to_owned(), role, used: now });
        Some((id, token))
    }

    /// Returns the role of a session's token, and keeps the session alive.
    pub fn role(&self, token: &str, now: Instant) -> Role {
        let mut sessions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match sessions.get_mut(token) {
            Some(session) if now.duration_since(session.used) < IDLE_TIMEOUT => {
                session.used = now;
                session.role
            }
            Some(_) | None => Role::Nobody,
        }
    }

    /// Returns the ids of the sessions, with their users.
    pub fn list(&self, now: Instant) -> Vec<(String, String)> {
        let sessions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let alive = sessions.values().filter(|session| now.duration_since(session.used) < IDLE_TIMEOUT);
        alive.map(|session| (session.id.clone(), session.user.clone())).collect()
    }

    /// Returns whether a token belongs to the session with this id.
    pub fn is_own_session(&self, token: &str, id: &str) -> bool {
        let sessions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.get(token).is_some_and(|session| session.id == id)
    }

    /// Ends a session; returns whether there was one.
    pub fn end(&self, id: &str) -> bool {
        let mut sessions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let before = sessions.len();
        sessions.retain(|_, session| session.id != id);
        sessions.len() < before
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_ends_when_idle_or_deleted() {
        let (sessions, start) = (Sessions::default(), Instant::now());
        let (id, token) = sessions.begin("a", Role::Viewer, start).unwrap();
        assert_eq!(sessions.role(&token, start + IDLE_TIMEOUT / 2), Role::Viewer);
        assert_eq!(sessions.role(&token, start + IDLE_TIMEOUT), Role::Viewer, "it was used in between");
        assert_eq!(sessions.role(&token, start + IDLE_TIMEOUT * 3), Role::Nobody);
        assert_eq!(sessions.role("x", start), Role::Nobody);
        let (other, token) = sessions.begin("b", Role::Admin, start).unwrap();
        assert!(
            sessions.is_own_session(&token, &other)
                && !sessions.is_own_session(&token, &id)
                && !sessions.is_own_session("x", &id)
        );
        assert!(sessions.end(&other) && !sessions.end(&other));
        assert_eq!(sessions.role(&token, start), Role::Nobody);
        assert!(sessions.end(&id));
    }

    #[test]
    fn sessions_are_bounded_and_a_viewer_cannot_end_an_admins() {
        let (sessions, start) = (Sessions::default(), Instant::now());
        let at = |count: usize| start + Duration::from_millis(count as u64);
        let (_, admin) = sessions.begin("first", Role::Admin, start).unwrap();
        let (_, viewer) = sessions.begin("second", Role::Viewer, at(1)).unwrap();
        for count in 2..=MAX_SESSIONS {
            sessions.begin("more", Role::Viewer, at(count)).unwrap();
        }
        assert_eq!(sessions.list(at(MAX_SESSIONS)).len(), MAX_SESSIONS);
        assert_eq!(sessions.role(&viewer, start), Role::Nobody, "it was idle longest");
        for count in 0..MAX_SESSIONS {
            assert_eq!(
                sessions.role(&admin, at(MAX_SESSIONS + count)),
                Role::Admin,
                "viewers' sessions are replaced first"
            );
            sessions.begin("admin", Role::Admin, at(MAX_SESSIONS + count)).unwrap();
        }
        assert_eq!(sessions.begin("viewer", Role::Viewer, at(2 * MAX_SESSIONS)), None);
        sessions.begin("admin", Role::Admin, at(2 * MAX_SESSIONS)).unwrap();
        assert_eq!(sessions.list(at(2 * MAX_SESSIONS)).len(), MAX_SESSIONS);
    }
}

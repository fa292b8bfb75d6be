use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::super::Role;

/// Bounds the sessions; the one that was idle longest makes room.
const SESSIONS: usize = 256;
/// Is how long a session lives without a request.
pub const IDLE: Duration = Duration::from_secs(1800);

/// Holds what `X-Auth-Token` is proved by (DSP0266, section 13.3.4).
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
    /// Begins a session, and gives its id and its token.
    pub fn begin(&self, user: &str, role: Role, now: Instant) -> (String, String) {
        let mut sessions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.retain(|_, session| now.duration_since(session.used) < IDLE);
        if sessions.len() >= SESSIONS
            && let Some(oldest) = sessions.iter().min_by_key(|(_, one)| one.used).map(|(token, _)| token.clone())
        {
            sessions.remove(&oldest);
        }
        let token = format!("{}{}", uuid::Uuid::new_v4().simple(), uuid::Uuid::new_v4().simple());
        let id = uuid::Uuid::new_v4().simple().to_string();
        sessions.insert(token.clone(), Session { id: id.clone(), user: user.to_owned(), role, used: now });
        (id, token)
    }

    /// Finds what the bearer of a token may do, and keeps the session alive.
    pub fn role(&self, token: &str, now: Instant) -> Role {
        let mut sessions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match sessions.get_mut(token) {
            Some(session) if now.duration_since(session.used) < IDLE => {
                session.used = now;
                session.role
            }
            Some(_) | None => Role::Nobody,
        }
    }

    /// Lists the sessions by id, with their users.
    pub fn list(&self, now: Instant) -> Vec<(String, String)> {
        let sessions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let alive = sessions.values().filter(|session| now.duration_since(session.used) < IDLE);
        alive.map(|session| (session.id.clone(), session.user.clone())).collect()
    }

    /// Ends a session by its id, where there is one.
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
    fn a_session_ends_when_it_is_idle_and_when_it_is_told_to() {
        let (sessions, start) = (Sessions::default(), Instant::now());
        let (id, token) = sessions.begin("a", Role::Viewer, start);
        assert_eq!(sessions.role(&token, start + IDLE / 2), Role::Viewer);
        assert_eq!(sessions.role(&token, start + IDLE), Role::Viewer, "it was used meanwhile");
        assert_eq!(sessions.role(&token, start + IDLE * 3), Role::Nobody);
        assert_eq!(sessions.role("x", start), Role::Nobody);
        let (other, token) = sessions.begin("b", Role::Admin, start);
        assert!(sessions.end(&other) && !sessions.end(&other));
        assert_eq!(sessions.role(&token, start), Role::Nobody);
        assert!(sessions.end(&id));
    }

    #[test]
    fn sessions_are_bounded() {
        let (sessions, start) = (Sessions::default(), Instant::now());
        let (_, first) = sessions.begin("first", Role::Admin, start);
        for count in 0..SESSIONS {
            sessions.begin("more", Role::Admin, start + Duration::from_millis(count as u64 + 1));
        }
        assert_eq!(sessions.list(start + Duration::from_secs(1)).len(), SESSIONS);
        assert_eq!(sessions.role(&first, start), Role::Nobody);
    }
}

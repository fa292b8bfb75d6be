use super::super::chassis::{SET_PRIVILEGE, STATUS};
use super::super::login::{Login, LoginError, ProvenBmc};
use super::super::packet::{PayloadType, outside_session, read_outside_session};
use super::*;
use crate::fleet::{CipherSuite, PrivilegeLevel};

/// `ipmitool -I lanplus -L OPERATOR chassis power status` with the scripted BMC of the tests, with each suite: the packets of
/// ipmitool ("C") and of the BMC ("B").
fn capture(suite: CipherSuite) -> Vec<Vec<u8>> {
    let text = match suite {
        CipherSuite::Three => include_str!("suite-3.txt"),
        CipherSuite::Seventeen => include_str!("suite-17.txt"),
    };
    text.lines().map(|line| hex::decode(&line[2..]).unwrap()).collect()
}

/// The ID that ipmitool gives its sessions, and its tags.
const CONSOLE: u32 = 0xa0a2_a3a4;
const BMC: u32 = 0x1001;

fn login(suite: CipherSuite, packets: &[Vec<u8>]) -> Login {
    Login {
        suite,
        privilege: PrivilegeLevel::Operator,
        username: "admin".to_owned(),
        password: b"password".to_vec(),
        session: CONSOLE,
        random: packets[2][24..40].try_into().unwrap(),
    }
}

fn body(packet: &[u8]) -> &[u8] {
    read_outside_session(packet).unwrap().1
}

fn proven(login: &Login, packets: &[Vec<u8>]) -> Result<ProvenBmc, LoginError> {
    login.read_rakp2(0, BMC, body(&packets[3]))
}

#[test]
fn a_login_is_that_of_ipmitool() {
    for suite in CipherSuite::ALL {
        let packets = capture(suite);
        let login = login(suite, &packets);
        let request = outside_session(PayloadType::OpenSessionRequest, &login.open_request(0));
        assert_eq!(hex::encode(request), hex::encode(&packets[0]), "{suite}");
        assert_eq!(login.read_open_response(0, body(&packets[1])), Ok(BMC));
        let rakp1 = outside_session(PayloadType::Rakp1, &login.rakp1(0, BMC));
        assert_eq!(hex::encode(rakp1), hex::encode(&packets[2]), "{suite}");
        let proven = proven(&login, &packets).unwrap();
        let rakp3 = outside_session(PayloadType::Rakp3, &proven.rakp3(0));
        assert_eq!(hex::encode(rakp3), hex::encode(&packets[4]), "{suite}");
        let keys = proven.read_rakp4(0, body(&packets[5])).unwrap();
        let mut session = Session { sent: 2, ..Session::new(keys.clone(), CONSOLE, BMC) };
        for (at, command, data, expected) in [(6, SET_PRIVILEGE, &[3][..], &[3][..]), (8, STATUS, &[], &[0x20, 0, 0])] {
            let (_, sequence, message) = keys.open(&packets[at], BMC).unwrap();
            let number = message[4] >> 2;
            let vector = packets[at][16..32].try_into().unwrap();
            session.sent = sequence - 1;
            let request = session.request(number, command, data, vector).unwrap();
            assert_eq!(hex::encode(request), hex::encode(&packets[at]), "{suite}, packet {at}");
            let response = session.response(number, command, &packets[at + 1]);
            assert_eq!(response, Ok((0, expected.to_vec())), "{suite}, packet {at}");
            let again = session.response(number, command, &packets[at + 1]);
            assert_eq!(again, Err(PacketError::Session), "{suite}, packet {at}: it is taken once");
        }
    }
}

#[test]
fn a_wrong_password_or_another_login_is_told_apart() {
    for suite in CipherSuite::ALL {
        let packets = capture(suite);
        let right = login(suite, &packets);
        let wrong = Login { password: b"passwort".to_vec(), ..right.clone() };
        assert_eq!(proven(&wrong, &packets).unwrap_err(), LoginError::WrongPassword);
        let other = Login { session: CONSOLE ^ 1, ..right.clone() };
        assert_eq!(other.read_open_response(0, body(&packets[1])), Err(LoginError::Unrelated));
        assert_eq!(proven(&other, &packets).unwrap_err(), LoginError::Unrelated);
        assert_eq!(right.read_rakp2(1, BMC, body(&packets[3])).unwrap_err(), LoginError::Unrelated, "another tag");
        let mut damaged = body(&packets[5]).to_vec();
        *damaged.last_mut().unwrap() ^= 1;
        let refused = proven(&right, &packets).unwrap().read_rakp4(0, &damaged);
        assert_eq!(refused.unwrap_err(), LoginError::OtherAlgorithms);
        for length in 0..body(&packets[3]).len() {
            assert!(right.read_rakp2(0, BMC, &body(&packets[3])[..length]).is_err(), "{length} octets");
        }
    }
}

#[test]
fn a_bmc_cannot_choose_a_worse_suite() {
    let packets = capture(CipherSuite::Seventeen);
    let login = login(CipherSuite::Seventeen, &packets);
    let right = body(&packets[1]).to_vec();
    for (at, algorithm) in [(16, 0), (16, 1), (24, 0), (24, 1), (32, 0), (32, 2)] {
        let mut payload = right.clone();
        payload[at] = algorithm;
        assert_eq!(login.read_open_response(0, &payload), Err(LoginError::OtherAlgorithms), "{at} {algorithm}");
    }
    for length in 0..right.len() {
        assert_eq!(login.read_open_response(0, &right[..length]), Err(LoginError::Unrelated), "{length} octets");
    }
}

#[test]
fn a_status_says_what_is_wrong() {
    let packets = capture(CipherSuite::Seventeen);
    let login = login(CipherSuite::Seventeen, &packets);
    for (status, error) in [
        (0x01, LoginError::NoResources),
        (0x0b, LoginError::NoResources),
        (0x11, LoginError::CipherSuite),
        (0x09, LoginError::Privilege),
        (0x0a, LoginError::Privilege),
        (0x0d, LoginError::NoSuchUser),
        (0x0f, LoginError::WrongPassword),
        (0x12, LoginError::Status(0x12)),
    ] {
        let reply = [&[0, status, 0, 0][..], &CONSOLE.to_le_bytes()].concat();
        assert_eq!(login.read_open_response(0, &reply), Err(error));
        assert_eq!(login.read_rakp2(0, BMC, &reply).unwrap_err(), error);
        assert_eq!(proven(&login, &packets).unwrap().read_rakp4(0, &reply).unwrap_err(), error);
    }
}

#[test]
fn a_sequence_number_is_taken_once() {
    let mut window = ReplayWindow::default();
    for (number, is_new) in [
        (0, false),
        (1, true),
        (1, false),
        (3, true),
        (2, true),
        (2, false),
        (40, true),
        (8, false),
        (9, true),
        (9, false),
        (100, true),
        (u32::MAX, true),
        (100, false),
    ] {
        assert_eq!(window.take(number), is_new, "{number}");
    }
}

#[test]
fn sequence_numbers_do_not_begin_again() {
    let packets = capture(CipherSuite::Three);
    let keys = proven(&login(CipherSuite::Three, &packets), &packets).unwrap();
    let keys = keys.read_rakp4(0, body(&packets[5])).unwrap();
    let mut session = Session { sent: u32::MAX, ..Session::new(keys, CONSOLE, BMC) };
    assert_eq!(session.request(1, STATUS, &[], [0; 16]), None);
}

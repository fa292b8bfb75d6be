//! Packets of a BMC over IPMI: a login and a session take only what is theirs, and a sealed packet opens as it was sealed.
#![no_main]

use std::sync::LazyLock;

use bootlatch::bmc::ipmi::cipher::SessionKeys;
use bootlatch::bmc::ipmi::login::{Login, LoginError};
use bootlatch::bmc::ipmi::packet::{Command, PayloadType, outside_session, read_outside_session};
use bootlatch::bmc::ipmi::session::Session;
use bootlatch::bmc::ipmi::sol::ConsoleReader;
use bootlatch::fleet::{CipherSuite, PrivilegeLevel};
use libfuzzer_sys::fuzz_target;

const COMMAND: Command = Command { function: 0, command: 1 };
const CONSOLE: u32 = 0xa0a2_a3a4;
const BMC: u32 = 0x1001;

/// A login that ipmitool made with each suite, with the replies of the BMC.
const CAPTURES: [(CipherSuite, &str); 2] = [
    (CipherSuite::Three, include_str!("../../../src/bmc/ipmi/session/suite-3.txt")),
    (CipherSuite::Seventeen, include_str!("../../../src/bmc/ipmi/session/suite-17.txt")),
];

struct Fixture {
    login: Login,
    keys: SessionKeys,
}

static FIXTURES: LazyLock<Vec<Fixture>> = LazyLock::new(|| CAPTURES.iter().map(fixture).collect());

fn fixture((suite, text): &(CipherSuite, &str)) -> Fixture {
    let packets: Vec<Vec<u8>> = text.lines().map(|line| unhex(&line[2..])).collect();
    let random = packets[2][24..40].try_into().expect("16 octets");
    let (username, password) = ("admin".to_owned(), b"password".to_vec());
    let login =
        Login { suite: *suite, privilege: PrivilegeLevel::Operator, username, password, session: CONSOLE, random };
    let body = |at: usize| read_outside_session(&packets[at]).expect("a packet of a login").1;
    let proven = login.read_rakp2(0, BMC, body(3)).expect("the password is right");
    let keys = proven.read_rakp4(0, body(5)).expect("the keys are the same");
    Fixture { login, keys }
}

fn unhex(text: &str) -> Vec<u8> {
    let digits = text.as_bytes().chunks(2);
    digits.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).expect("ASCII"), 16).expect("hex")).collect()
}

fuzz_target!(|data: &[u8]| {
    let [how, rest @ ..] = data else { return };
    let Fixture { login, keys } = &FIXTURES[usize::from(how & 1)];
    if let Ok((payload, body)) = read_outside_session(rest) {
        assert_eq!(outside_session(payload, body)[16..], rest[16..16 + body.len()]);
    }
    let tag = rest.first().copied().unwrap_or_default();
    // Nobody without the password proves that he knows it.
    assert!(login.read_rakp2(tag, BMC, rest).is_err());
    if let Err(error) = login.read_open_response(tag, rest) {
        assert!(!matches!(error, LoginError::WrongPassword | LoginError::NoSuchUser) || rest[1] != 0);
    }
    let mut session = Session::new(keys.clone(), CONSOLE, BMC);
    assert!(session.open(rest).is_err(), "a packet without the session's key");
    if let Ok((_, result)) = COMMAND.read_response(2, rest) {
        assert_eq!(result.len() + 8, rest.len());
    }
    let mut console = ConsoleReader::default();
    if let Some(first) = console.receive(rest) {
        assert!(first.text.len() <= 255.min(rest.len() - 4));
        let again = console.receive(rest).expect("as long as before");
        assert_eq!((again.text, again.acknowledgement), (&[][..], first.acknowledgement), "a repeated packet");
    }
    let body = &rest[..rest.len().min(900)];
    let sealed = keys.seal(PayloadType::Message, CONSOLE, 1, body, [*how; 16]).expect("a short payload");
    assert_eq!(session.open(&sealed).ok(), Some((PayloadType::Message, body.to_vec())));
    assert!(session.open(&sealed).is_err(), "a repeated packet");
    let mut damaged = sealed;
    let at = usize::from(tag) % damaged.len();
    damaged[at] ^= 1 << (how & 7);
    assert!(Session::new(keys.clone(), CONSOLE, BMC).open(&damaged).is_err(), "a damaged packet");
});

//! Successful and failed logins.

use super::*;

#[test]
fn a_login_in_every_stage_is_the_same_login() {
    let mut peer = Initiator::new(LoginDecision::Admit(None));
    let first = peer.login(0x81, &(keys_of(&[]) + "AuthMethod=CHAP,None\0"));
    assert_eq!(first[0].flags(), 0x81);
    assert_eq!(first[0].value("AuthMethod").as_deref(), Some("None"));
    assert_eq!(first[0].value("TargetPortalGroupTag").as_deref(), Some("1"));
    // Without the transit bit the target stays in the stage; a key may be split over two requests.
    let second = peer.login(0x44, "MaxBurstLen");
    assert_eq!((second[0].flags(), second[0].data.len()), (0x04, 0));
    let third = peer.login(0x04, "gth=65536\0");
    assert_eq!(third[0].value("MaxBurstLength").as_deref(), Some("65536"));
    let last = peer.login(0x87, "");
    assert_eq!((last[0].flags(), last[0].header.half(14)), (0x87, 0x1234));
    assert_eq!(last[0].header.word(24), 0x103);
}

#[test]
fn an_invalid_login_fails_with_its_status() {
    let no_target = "InitiatorName=iqn.a:b\0";
    let twice = keys_of(&["HeaderDigest=None", "HeaderDigest=CRC32C"]);
    for (entrance, flags, keys, status) in [
        (LoginDecision::Refuse(LoginRefusal::Forbidden), 0x87, keys_of(&[]), [2, 2]),
        (LoginDecision::Refuse(LoginRefusal::NotFound), 0x87, keys_of(&[]), [2, 3]),
        (LoginDecision::Refuse(LoginRefusal::Unavailable), 0x87, keys_of(&[]), [3, 1]),
        (LoginDecision::Admit(None), 0x87, no_target.to_owned(), [2, 7]),
        (LoginDecision::Admit(None), 0x87, "TargetName=x\0".to_owned(), [2, 7]),
        (LoginDecision::Admit(None), 0x87, keys_of(&[]).replace("Normal", "Odd"), [2, 9]),
        (LoginDecision::Admit(None), 0x87, twice, [2, 0]),
        (LoginDecision::Admit(None), 0x87, "nonsense".to_owned(), [2, 0]),
        (LoginDecision::Admit(None), 0x8c, keys_of(&[]), [2, 0]),
        (LoginDecision::Admit(None), 0x86, keys_of(&[]), [2, 0]),
        (LoginDecision::Admit(None), 0x81, keys_of(&["AuthMethod=KRB5"]), [2, 1]),
    ] {
        let mut peer = Initiator::new(entrance);
        let heard = peer.login(flags, &keys);
        assert_eq!((heard[0].opcode(), &heard[0].header.0[36..38]), (0x23, &status[..]), "{keys:?}");
        assert!(matches!(peer.end, Some(End::Login(_))));
    }
}

#[test]
fn a_login_has_a_bounded_number_of_requests() {
    let mut peer = Initiator::new(LoginDecision::Admit(None));
    peer.login(0x04, &keys_of(&[]));
    for _ in 1..limits::MAX_LOGIN_REQUESTS {
        assert_eq!(peer.login(0x04, "")[0].header.0[36..38], [0, 0]);
    }
    assert_eq!(peer.login(0x04, "")[0].header.0[36..38], [2, 0]);
    assert!(matches!(peer.end, Some(End::Login(LoginError::Protocol(_)))));
}

#[test]
fn the_text_of_a_login_has_a_bounded_length() {
    let mut peer = Initiator::new(LoginDecision::Admit(None));
    let part = "x".repeat(limits::MAX_RECEIVE_SEGMENT);
    for _ in 0..limits::MAX_TEXT_BYTES / limits::MAX_RECEIVE_SEGMENT {
        assert_eq!(peer.login(0x44, &part)[0].header.0[36..38], [0, 0]);
    }
    assert_eq!(peer.login(0x44, "x")[0].header.0[36..38], [2, 0]);
    assert!(matches!(peer.end, Some(End::Login(LoginError::Protocol(_)))));
}

#[test]
fn a_connection_for_a_session_finds_none() {
    let mut peer = Initiator::new(LoginDecision::Admit(None));
    let mut header = request(0x43, 0x87, 0);
    header.0[14..16].copy_from_slice(&[0, 9]);
    let heard = peer.send(header, keys_of(&[]).as_bytes());
    assert_eq!(heard[0].header.0[36..38], [2, 10]);
}

#[test]
fn a_redirect_names_the_portal() {
    for (permanent, detail) in [(false, 1), (true, 2)] {
        let mut peer = Initiator::new(LoginDecision::Redirect { portal: "192.0.2.7:3260".to_owned(), permanent });
        let heard = peer.login(0x87, &keys_of(&[]));
        assert_eq!(heard[0].header.0[36..38], [1, detail]);
        assert_eq!(heard[0].value("TargetAddress").as_deref(), Some("192.0.2.7:3260"));
    }
}

#[test]
fn chap_authenticates_both_sides() {
    let mut peer = Initiator::new(LoginDecision::Admit(Some(chap_terms())));
    let first = peer.login(0x81, &(keys_of(&[]) + "AuthMethod=CHAP,None\0"));
    assert_eq!((first[0].flags(), first[0].value("AuthMethod").as_deref()), (0x00, Some("CHAP")));
    let second = peer.login(0x00, "CHAP_A=5\0");
    assert_eq!(second[0].value("CHAP_C"), Some(text::hex(&NONCE.challenge)));
    let response = text::hex(&Algorithm::Md5.response(NONCE.id, b"secret of host", &NONCE.challenge));
    let third = peer.login(0x81, &format!("CHAP_N=host\0CHAP_R={response}\0CHAP_I=9\0CHAP_C=0x0102\0"));
    assert_eq!((third[0].flags(), third[0].value("CHAP_N").as_deref()), (0x81, Some("target")));
    let proof = text::hex(&Algorithm::Md5.response(9, b"secret of target", &[1, 2]));
    assert_eq!(third[0].value("CHAP_R"), Some(proof));
    assert_eq!(peer.login(0x87, "")[0].flags(), 0x87);
}

#[test]
fn chap_refuses_a_wrong_secret() {
    let wrong = "CHAP_N=host\0CHAP_R=0x00112233445566778899aabbccddeeff\0".to_owned();
    for rows in [
        vec![(0x87, keys_of(IPXE))],
        vec![(0x81, keys_of(&[]))],
        vec![(0x83, keys_of(&["AuthMethod=None"]))],
        vec![(0x81, keys_of(&["AuthMethod=CHAP"])), (0x00, "CHAP_A=5\0".to_owned()), (0x81, wrong)],
        vec![(0x81, keys_of(&["AuthMethod=CHAP"])), (0x00, "CHAP_A=1\0".to_owned())],
    ] {
        let mut peer = Initiator::new(LoginDecision::Admit(Some(chap_terms())));
        let last = rows.into_iter().flat_map(|(flags, keys)| peer.login(flags, &keys)).last().unwrap();
        assert_eq!(last.header.0[36..38], [2, 1]);
        assert!(matches!(peer.end, Some(End::Login(LoginError::Chap(_) | LoginError::NoChap))));
    }
}

#[test]
fn only_a_login_request_is_accepted_before_the_login() {
    let mut peer = Initiator::new(LoginDecision::Admit(None));
    let read = peer.read_10(1, 0, 1);
    assert_eq!(peer.send(read, &[]), []);
    assert!(matches!(peer.end, Some(End::Protocol(_))));
}

#[test]
fn a_login_times_out() {
    let mut peer = Initiator::new(LoginDecision::Admit(None));
    peer.now += limits::LOGIN_TIMEOUT - Duration::from_secs(1);
    peer.connection.on_time(peer.now);
    peer.turn();
    assert_eq!(peer.end, None);
    peer.now += Duration::from_secs(1);
    peer.connection.on_time(peer.now);
    peer.turn();
    assert_eq!(peer.end, Some(End::LoginTime));
}

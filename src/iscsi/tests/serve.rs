//! The I/O loop over a socket, without an initiator.

use super::*;

#[tokio::test]
async fn connections_inherit_the_options_of_their_listener() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    set_options(&listener).unwrap();
    let (client, accepted) = tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
    let (_client, (stream, _)) = (client.unwrap(), accepted.unwrap());
    let socket = SockRef::from(&stream);
    assert!(socket.tcp_nodelay().unwrap() && socket.keepalive().unwrap());
    assert_eq!(socket.tcp_keepalive_time().unwrap(), limits::KEEPALIVE_IDLE_TIMEOUT);
    assert_eq!(socket.tcp_keepalive_interval().unwrap(), limits::KEEPALIVE_INTERVAL);
    assert_eq!(socket.tcp_keepalive_retries().unwrap(), limits::MAX_KEEPALIVE_PROBES);
}

#[test]
fn the_input_grows_once_when_it_is_full() {
    let mut input = Input::new();
    assert_eq!(input.room().len(), limits::MIN_INPUT_BUFFER_BYTES);
    input.end += limits::MIN_INPUT_BUFFER_BYTES - 1;
    assert_eq!(input.room().len(), 1);
    input.room().fill(7);
    input.end += 1;
    assert_eq!(input.room().len(), limits::INPUT_BUFFER_BYTES - limits::MIN_INPUT_BUFFER_BYTES);
    input.used(limits::MIN_INPUT_BUFFER_BYTES - 1);
    assert_eq!((input.start, input.end, input.bytes[0]), (0, 1, 7));
    input.end = limits::INPUT_BUFFER_BYTES;
    assert!(input.room().is_empty());
}

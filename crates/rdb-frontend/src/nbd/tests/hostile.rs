//! Bytes cut short, and bytes without sense.

use hex_literal::hex;
use proptest::prelude::*;

use super::super::constants::command as kind;
use super::*;
use crate::Errno;

#[test]
fn every_truncated_length_waits_for_the_rest() {
    let mut whole = hex!("00000003").to_vec();
    for part in [
        option(8, &[]),
        option(9, &meta_context("r0", &[])),
        option(10, &meta_context("r0/0", &["base:allocation"])),
        option(6, &go("", &[1, 2, 3])),
        option(7, &go("r0/0", &[3])),
        command(kind::BLOCK_STATUS, 0, 0, 4096),
        command(kind::READ, 0, 1, 1),
    ] {
        whole.extend(part);
    }
    let mut reference = Client::new();
    reference.feed(&whole);
    for end in 0..whole.len() {
        let mut client = Client::new();
        let stop = client.feed(&whole[..end]);
        let Step::NeedMore { bytes } = stop.step else {
            panic!("{end} bytes: {stop:?}")
        };
        assert!(
            bytes > stop.left && bytes <= INPUT_MAX,
            "{end} bytes: {stop:?}"
        );
        let rest = client.feed(&whole[end - stop.left..]);
        assert_eq!(
            rest,
            Stop {
                step: Step::NeedMore { bytes: 28 },
                left: 0
            }
        );
        assert_eq!(client.out, reference.out, "{end} bytes");
    }
}

/// Feeds bytes in pieces, checks every promise of the module, and answers requests as they come.
fn check_promises(mut client: Client, input: &[u8], piece: usize) -> Result<(), TestCaseError> {
    let mut pending = Vec::new();
    for chunk in input.chunks(piece) {
        pending.extend_from_slice(chunk);
        loop {
            let before = client.out.len();
            match client
                .session
                .advance(&client.exports, &pending, &mut client.out)
            {
                Step::NeedMore { bytes } => {
                    prop_assert!(bytes > pending.len() && bytes <= INPUT_MAX);
                    prop_assert_eq!(client.out.len(), before);
                    break;
                }
                Step::Consumed { consumed } => {
                    prop_assert!(consumed > 0 || client.out.len() > before);
                    pending.drain(..consumed);
                }
                Step::Request {
                    consumed,
                    volume,
                    request,
                    payload_len,
                } => {
                    pending.drain(..consumed);
                    let info = client.exports.get(volume).expect("an export").info;
                    if request.op != Op::Flush {
                        let length = u64::from(request.length);
                        prop_assert_eq!(info.check_range(request.offset, length), Ok(()));
                    }
                    prop_assert!(!(info.read_only && request.op.is_write()));
                    prop_assert!(payload_len <= info.maximum_request);
                    let buffered = pending.len().min(payload_len as usize);
                    pending.drain(..buffered);
                    let reply = client.session.reply_header(&request, Err(Errno::Io));
                    prop_assert!(reply.as_bytes().len() <= ReplyHeader::SIZE_MAX);
                }
                Step::Wait => {
                    prop_assert!(client.out.len() >= OUTPUT_HIGH_WATER);
                    client.out.clear();
                }
                Step::Close { .. } => return Ok(()),
            }
        }
    }
    Ok(())
}

/// Mostly sense, partly nonsense: it goes deeper than noise.
fn any_request() -> impl Strategy<Value = Vec<u8>> {
    let offset = prop_oneof![(0_u64..2200).prop_map(|block| block * 512), any::<u64>()];
    let length = prop_oneof![(0_u32..300).prop_map(|blocks| blocks * 512), any::<u32>()];
    let flags = prop_oneof![Just(0_u16), 0_u16..32, any::<u16>()];
    (0_u16..9, flags, offset, length)
        .prop_map(|(kind, flags, offset, length)| command(kind, flags, offset, length))
}

fn any_option() -> impl Strategy<Value = Vec<u8>> {
    let name = prop_oneof![Just("r0/0".to_owned()), Just(String::new()), ".{0,20}"];
    let data = prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..64),
        (name.clone(), proptest::collection::vec(0_u16..5, 0..5))
            .prop_map(|(name, kinds)| go(&name, &kinds)),
        (name, any::<bool>()).prop_map(|(name, known)| {
            meta_context(
                &name,
                if known {
                    &["base:allocation"]
                } else {
                    &["x:y", "base:"]
                },
            )
        }),
    ];
    (0_u32..13, data).prop_map(|(number, data)| option(number, &data))
}

proptest! {
    #[test]
    fn noise_does_no_harm(input in proptest::collection::vec(any::<u8>(), 0..512), piece in 1_usize..64) {
        check_promises(Client::new(), &input, piece)?;
        check_promises(Client::negotiating(), &input, piece)?;
        check_promises(Client::transmitting(true), &input, piece)?;
    }

    #[test]
    fn hostile_negotiations_do_no_harm(
        options in proptest::collection::vec(any_option(), 0..40),
        flips in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3),
        piece in 1_usize..200,
    ) {
        let mut input = [&hex!("00000003")[..], &options.concat()].concat();
        for (index, value) in flips {
            let index = index.index(input.len());
            input[index] = value;
        }
        check_promises(Client::new(), &input, piece)?;
    }

    #[test]
    fn hostile_requests_do_no_harm(
        requests in proptest::collection::vec(any_request(), 0..60),
        structured: bool,
        piece in 1_usize..200,
    ) {
        check_promises(Client::transmitting(structured), &requests.concat(), piece)?;
    }
}

//! Hand-made streams: what a hostile or damaged pickle may hold, opcode by opcode.

use proptest::prelude::*;

use super::*;
use crate::checkpoint::element::Element;

/// A stream that begins as torch's do.
fn stream(parts: &[&[u8]]) -> Vec<u8> {
    let mut bytes = vec![opcode::PROTO, 2];
    bytes.extend(parts.concat());
    bytes
}

/// BINUNICODE with that text.
fn text(text: &str) -> Vec<u8> {
    let length = u32::try_from(text.len()).unwrap().to_le_bytes();
    [&[opcode::BINUNICODE], &length[..], text.as_bytes()].concat()
}

/// `{"w": tensor}` with a 2x2 tensor of the storage type `storage`.
fn one_tensor(storage: &str) -> Vec<u8> {
    stream(&[
        b"}",
        &text("w"),
        b"ctorch._utils\n_rebuild_tensor_v2\n((",
        &text("storage"),
        format!("ctorch\n{storage}\n").as_bytes(),
        &text("0"),
        &text("cpu"),
        b"K\x04tQK\x00K\x02K\x02\x86K\x02K\x01\x86\x89ccollections\nOrderedDict\n)RtRs.",
    ])
}

#[test]
fn a_hand_made_tensor_is_read() {
    let tensors = read_tensors(&one_tensor("HalfStorage")).unwrap();
    let tensor = &tensors["w"];
    assert_eq!(tensor.storage.element, Element::F16);
    assert_eq!((tensor.storage.key.as_str(), tensor.storage.elements), ("0", 4));
    assert_eq!(tensor.shape, [2, 2]);
    assert_eq!(tensor.layout.strides, [2, 1]);
}

#[test]
fn every_prefix_of_a_stream_is_an_error() {
    let whole = one_tensor("FloatStorage");
    for length in 0..whole.len() {
        assert!(read_tensors(&whole[..length]).is_err(), "{length}");
    }
}

#[test]
fn names_off_the_list_are_refused_by_name() {
    for name in ["UntypedStorage", "load", "system"] {
        let error = read_tensors(&one_tensor(name)).err();
        let module = "torch".to_string();
        assert_eq!(error, Some(PickleError::Global { module, name: name.to_string() }));
    }
    let eval = stream(&[&text("builtins"), &text("eval"), &[opcode::STACK_GLOBAL]]);
    assert!(matches!(read_tensors(&eval), Err(PickleError::Global { name, .. }) if name == "eval"));
}

#[test]
fn opcodes_off_the_list_are_refused_by_number() {
    for code in [b'i', b'o', 0x81, 0x82, 0x92, b'0', b'P', b'I', b'V'] {
        let error = read_tensors(&stream(&[&[code]])).err();
        assert_eq!(error, Some(PickleError::Opcode { at: 2, found: code }));
    }
}

#[test]
fn calls_with_wrong_arguments_are_refused() {
    let calls: [&[u8]; 5] = [
        b"ctorch\nFloatStorage\n)R",
        b"ccollections\nOrderedDict\nK\x01\x85R",
        b"ctorch._utils\n_rebuild_tensor_v2\n)R",
        b"ctorch._utils\n_rebuild_parameter\nNNN\x87R",
        b"K\x01)R",
    ];
    for call in calls {
        let error = read_tensors(&stream(&[call])).err();
        assert!(matches!(error, Some(PickleError::Unexpected { .. })), "{error:?}");
    }
}

#[test]
fn a_dictionary_that_holds_itself_ends() {
    let endless = stream(&[b"}q\x00", &text("me"), b"h\x00s."]);
    assert_eq!(read_tensors(&endless), Err(PickleError::NoTensors));
}

#[test]
fn what_is_remembered_is_the_same_dictionary() {
    let filled_later = one_tensor("FloatStorage");
    let (begin, rest) = filled_later.split_at(3);
    let (rest, stop) = rest.split_at(rest.len() - 1);
    let bytes = [begin, b"q\x05", rest, b"h\x05", stop].concat();
    assert_eq!(read_tensors(&bytes).unwrap().len(), 1);
}

#[test]
fn deep_nesting_and_endless_values_meet_a_limit() {
    let deep = stream(&[&[b'('; 5000]]);
    assert!(matches!(read_tensors(&deep), Err(PickleError::TooMany { what: "open marks", .. })));
    let nested = [&[b')'][..], &[opcode::TUPLE1; MAX_VALUES][..]].concat();
    let nested = read_tensors(&stream(&[&nested]));
    assert!(matches!(nested, Err(PickleError::TooMany { what: "values", .. })));
    let remembered = [&[b'N'][..], &[opcode::MEMOIZE; MAX_VALUES + 1][..]].concat();
    let remembered = read_tensors(&stream(&[&remembered]));
    assert!(matches!(remembered, Err(PickleError::TooMany { what: "remembered values", .. })));
}

#[test]
fn negative_sizes_are_refused() {
    let mut bytes = one_tensor("FloatStorage");
    let at = bytes.windows(4).position(|window| window == b"K\x02K\x02").unwrap();
    bytes.splice(at..at + 2, [opcode::LONG1, 1, 0xff]);
    assert!(matches!(read_tensors(&bytes), Err(PickleError::Unexpected { .. })));
}

proptest! {
    #[test]
    fn any_bytes_end_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let _read = read_tensors(&stream(&[&bytes]));
    }

    #[test]
    fn changed_streams_end_without_a_panic(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..5),
    ) {
        let mut bytes = one_tensor("FloatStorage");
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        let _read = read_tensors(&bytes);
    }
}

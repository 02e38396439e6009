//! Pickles as Python has them, in both directions: `pickle` is the only definition of the format that counts.

use std::{
    io::Write,
    process::{Command, Stdio},
};

use aviary_core::Second;
use aviary_wire::{
    Datapoint,
    pickle::{self, PickleError},
};
use proptest::prelude::*;

/// Runs `program` with `input` and returns what it prints.
fn python(program: &str, input: &[u8]) -> Vec<u8> {
    let mut child = Command::new("python3")
        .args(["-I", "-c", program])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("this test needs python3 to compare with: apt-get install python3");
    child.stdin.take().expect("it is piped").write_all(input).expect("python reads its input");
    let output = child.wait_with_output().expect("python ends");
    assert!(output.status.success(), "{}", output.status);
    output.stdout
}

/// What `expressions` are pickled, each in protocols 0 to 5 in turn.
fn pickled(expressions: &[&str]) -> Vec<Vec<u8>> {
    let program = "import pickle, struct, sys\n\
        for line in sys.stdin.read().splitlines():\n    \
            for protocol in range(6):\n        \
                data = pickle.dumps(eval(line), protocol)\n        \
                sys.stdout.buffer.write(struct.pack('>I', len(data)) + data)\n";
    let output = python(program, expressions.join("\n").as_bytes());
    let mut rest = output.as_slice();
    let mut pickles = Vec::new();
    while let Some((header, behind)) = rest.split_first_chunk() {
        let (pickle, behind) = behind.split_at(u32::from_be_bytes(*header) as usize);
        pickles.push(pickle.to_vec());
        rest = behind;
    }
    assert_eq!(pickles.len(), 6 * expressions.len());
    pickles
}

fn point(name: &str, value: f64, second: u64) -> Datapoint {
    Datapoint { name: name.to_owned(), value, second: Second(second) }
}

#[test]
fn python_reads_our_frames_with_every_class_forbidden() {
    let program = "import io, pickle, struct, sys\n\
        class Forbidding(pickle.Unpickler):\n    \
            def find_class(self, module, name): raise Exception('a class was asked for')\n\
        data = sys.stdin.buffer.read()\n\
        while data:\n    \
            (length,) = struct.unpack('>I', data[:4])\n    \
            [(name, (second, value))] = Forbidding(io.BytesIO(data[4:4 + length])).load()\n    \
            print(name, repr(value), int(second))\n    \
            data = data[4 + length:]\n";
    let mut frames = Vec::new();
    pickle::encode_frame_into(&mut frames, "canary.ingest.pickle", 1.0, Second(1_763_690_400));
    pickle::encode_frame_into(&mut frames, &"x".repeat(300), -2.5e-300, Second(0));
    pickle::encode_frame_into(&mut frames, "after-2038", 1.0, Second(2_147_483_648));
    let expected = format!(
        "canary.ingest.pickle 1.0 1763690400\n{} -2.5e-300 0\nafter-2038 1.0 2147483648\n",
        "x".repeat(300)
    );
    assert_eq!(String::from_utf8(python(program, &frames)).unwrap(), expected);
}

#[test]
fn we_read_what_python_writes_in_every_protocol() {
    let two = vec![point("canary.a", 1.0, 1_763_690_400), point("canary.b", 0.5, 2_147_483_648)];
    let shared = vec![point("canary.a", 1.0, 7); 2];
    let many: Vec<_> = (0..2500).map(|index| point(&format!("canary.{index}"), 1.0, 7)).collect();
    let table: [(&str, Vec<Datapoint>); 9] = [
        ("[('canary.a', (1763690400, 1)), ('canary.b', (2147483648, 0.5))]", two.clone()),
        ("(('canary.a', (1763690400, 1)), ('canary.b', (2147483648, 0.5)))", two.clone()),
        ("[['canary.a', [1763690400.0, 1.0]], ['canary.b', [2147483648.9, 0.5]]]", two.clone()),
        ("[('canary.a', ('1763690400', '1')), ('canary.b', ('2147483648', '0.5'))]", two),
        ("[('canary.a', (7, 1))] * 2", shared.clone()),
        ("[(n, p) for n in ['canary.a'] for p in [(7, 1)] for _ in range(2)]", shared),
        ("[('canary.%d' % i, (7, 1)) for i in range(2500)]", many),
        (
            "[('x' * 249 + '.' + 'y' * 249, (255, 65536))]",
            vec![point(&format!("{}.{}", "x".repeat(249), "y".repeat(249)), 65_536.0, 255)],
        ),
        ("[]", Vec::new()),
    ];
    let pickles = pickled(&table.each_ref().map(|(expression, _)| *expression));
    for (index, pickle) in pickles.iter().enumerate() {
        let (expression, expected) = &table[index / 6];
        assert_eq!(pickle::decode(pickle).as_ref(), Ok(expected), "{expression}, protocol {}", index % 6);
    }
}

#[test]
fn what_python_may_write_and_we_do_not_take_is_refused() {
    let table = [
        ("__import__('types').SimpleNamespace(x=1)", ["GLOBAL", "STACK_GLOBAL", "EMPTY_DICT"].as_slice()),
        (
            "type('Gadget', (), {'__reduce__': lambda self: (__import__('os').system, ('id',))})()",
            &["GLOBAL", "STACK_GLOBAL"],
        ),
        ("{'canary.a': (7, 1)}", &["DICT", "EMPTY_DICT"]),
        ("[('canary.a', (7, True))]", &["INT", "NEWTRUE"]),
        ("[('canary.a', (None, 1))]", &["NONE"]),
        // Python has no opcode for bytes before protocol 3, and calls a codec instead.
        ("[(b'canary.a', (7, 1))]", &["GLOBAL", "SHORT_BINBYTES"]),
        ("[({'canary.a'}, (7, 1))]", &["GLOBAL", "EMPTY_SET"]),
        ("[('canary.a', (10**4000, 1))]", &["LONG", "LONG1", "LONG4"]),
        ("[('canary.a', (7, 2**64))]", &["LONG", "LONG1"]),
    ];
    let pickles = pickled(&table.map(|(expression, _)| expression));
    for (index, pickle) in pickles.iter().enumerate() {
        let (expression, opcodes) = table[index / 6];
        let error = pickle::decode(pickle).unwrap_err();
        let (PickleError::Refused { opcode, .. } | PickleError::Number { opcode, .. }) = error else {
            panic!("{expression}: {error}");
        };
        assert!(opcodes.contains(&opcode), "{expression}, protocol {}: {error}", index % 6);
    }
}

#[test]
fn bombs_and_wrong_shapes_are_refused() {
    let table = [
        "__import__('functools').reduce(lambda x, _: (x, x), range(400), 'canary.a')",
        "__import__('functools').reduce(lambda x, _: [x] * 9, range(400), ('canary.a', (7, 1)))",
        "[('canary.a', (7, 1))] * 10001",
        "['x' * 9] * 100",
        "[('canary.a', 7, 1)]",
        "[('canary.a', (7,))]",
        "'canary.a'",
        "[('canary.a' * 200, (7, 1))]",
        "[('canary.é', (7, 1))]",
        "[('canary.a', (float('nan'), 1))]",
        "[('canary.a', (7, float('inf')))]",
    ];
    // Python's own pickler recurses: bombs stay within what it can write.
    for (index, pickle) in pickled(&table).iter().enumerate() {
        let refused = pickle::decode(pickle).map(|points| points.len()).unwrap_err();
        assert!(!refused.to_string().is_empty(), "{}, protocol {}", table[index / 6], index % 6);
    }
}

#[test]
fn a_pickle_cut_anywhere_is_refused() {
    for pickle in pickled(&["[('canary.a', (1763690400, 1.5)), ('canary.b', (1763690400, 1))]"]) {
        for bytes in 0..pickle.len() {
            let error = pickle::decode(&pickle[..bytes]).unwrap_err();
            let cut = matches!(error, PickleError::Truncated { .. } | PickleError::Text { .. });
            assert!(cut, "{bytes} bytes: {error}");
        }
    }
}

#[test]
fn damaged_pickles_never_panic_and_never_make_a_broken_datapoint() {
    let pickles = pickled(&["[('canary.a', (1763690400, 1.5)), ('canary.b', (1763690400, 1))]"]);
    let damage = (0..pickles.len(), prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6));
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig::with_cases(5_000));
    runner
        .run(&damage, |(which, changes)| {
            let mut damaged = pickles[which].clone();
            for (index, byte) in changes {
                let at = index.index(damaged.len());
                damaged[at] = byte;
            }
            for point in pickle::decode(&damaged).unwrap_or_default() {
                prop_assert!(point.value.is_finite());
                prop_assert!(aviary_wire::datapoint::check_name(point.name.as_bytes(), 0).is_ok());
            }
            Ok(())
        })
        .unwrap();
}

//! A block as bytes.
//!
//! ```text
//! CRC-32 of the rest, form, [length when inflated,] body
//! body: rows, seconds
//!       addresses, losses, values: each with how many there are
//!       the row's most frequent value, as runs over the rows
//!       how many other runs each row has
//!       of each other run: seconds since the one before
//!       of each other run: its value, and whether it is longer than a second
//!       of each longer one: how much
//! ```
//!
//! Columns rather than rows, numbers in seven-bit groups, deflated where that is smaller. Where one slot in a thousand
//! is lost at random, a loss costs about three bytes: two say when. Where many series lose the same seconds, deflating
//! finds that they do.

use std::{
    borrow::Cow,
    collections::HashMap,
    hash::Hash,
    io::{Read as _, Write as _},
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6},
};

use aviary_core::{
    Evidence, Fault, LocalFault, Phase,
    losses::{Cause, Loss},
    mark::Mark,
};
use bytes::Bytes;
use flate2::{Compression, read::DeflateDecoder, write::DeflateEncoder};

use super::{
    block::{Block, Builder, ROWS, Value},
    varint::{Damage, Reader, put},
};

/// The form of a body that is stored as it is; the next is that of one that is deflated.
const PLAIN: u8 = 0x10;

/// No body is longer when inflated: every slot of an hour lost in a way of its own.
const BODY_BYTES_MAX: u64 = 64 << 20;

/// `block` as bytes.
pub(crate) fn encode(block: &Block) -> Bytes {
    packed(PLAIN, &body(block))
}

/// The block of `seconds` seconds in `bytes`.
///
/// # Errors
/// If `bytes` are not what [`encode`] makes of such a block; never a panic, and no more memory than a block can need.
pub(crate) fn decode(bytes: &[u8], seconds: u16) -> Result<Block, Damage> {
    read(Reader::new(&unpacked(PLAIN, bytes)?), seconds)
}

/// `body` with its form, deflated where that is shorter: then the form is the next one.
pub(super) fn packed(form: u8, body: &[u8]) -> Bytes {
    let mut deflater = DeflateEncoder::new(Vec::new(), Compression::default());
    let deflated = deflater.write_all(body).and_then(|()| deflater.finish());
    match deflated {
        Ok(deflated) if deflated.len() + 3 < body.len() => {
            let mut longer = Vec::with_capacity(deflated.len() + 4);
            put(&mut longer, body.len() as u64);
            longer.extend_from_slice(&deflated);
            framed(form + 1, &longer)
        }
        _ => framed(form, body),
    }
}

/// What [`packed`] was given.
pub(super) fn unpacked(form: u8, bytes: &[u8]) -> Result<Cow<'_, [u8]>, Damage> {
    let (given, stored) = unframed(bytes)?;
    if given == form {
        return Ok(stored.into());
    }
    if given != form + 1 {
        return Err(Damage("its form is not known here; a newer aviary may have written it"));
    }
    let mut reader = Reader::new(stored);
    let length = reader.at_most(BODY_BYTES_MAX, "it is longer than can be")?;
    let mut body = Vec::new();
    let inflated = DeflateDecoder::new(reader.rest()).take(length + 1).read_to_end(&mut body);
    if inflated.is_err() || body.len() as u64 != length {
        return Err(Damage("it does not inflate to its length"));
    }
    Ok(body.into())
}

/// `body` behind its form and a checksum of both.
pub(super) fn framed(form: u8, body: &[u8]) -> Bytes {
    let mut out = Vec::with_capacity(body.len() + 5);
    out.extend_from_slice(&checksum(form, body));
    out.push(form);
    out.extend_from_slice(body);
    out.into()
}

/// The form and what follows it.
pub(super) fn unframed(bytes: &[u8]) -> Result<(u8, &[u8]), Damage> {
    let [a, b, c, d, form, body @ ..] = bytes else { return Err(Damage("it is cut")) };
    if checksum(*form, body) != [*a, *b, *c, *d] {
        return Err(Damage("its checksum is another"));
    }
    Ok((*form, body))
}

fn checksum(form: u8, body: &[u8]) -> [u8; 4] {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&[form]);
    hasher.update(body);
    hasher.finalize().to_le_bytes()
}

fn body(block: &Block) -> Vec<u8> {
    let mut out = Vec::new();
    put(&mut out, block.rows() as u64);
    put(&mut out, u64::from(block.seconds));
    dictionaries(&mut out, &block.values);

    let mut usual = Vec::with_capacity(block.rows());
    let (mut counts, mut gaps, mut values, mut lengths) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for row in 0..block.rows() {
        let most = most_frequent(block, row);
        usual.push(most);
        let (mut count, mut from, mut last) = (0, 0, 0);
        for run in block.raw_runs(row) {
            if run.value != most {
                count += 1;
                put(&mut gaps, u64::from(from - last));
                let longer = u64::from(run.until - from) - 1;
                put(&mut values, u64::from(run.value) << 1 | u64::from(longer > 0));
                if longer > 0 {
                    put(&mut lengths, longer);
                }
                last = run.until;
            }
            from = run.until;
        }
        put(&mut counts, count);
    }
    for alike in usual.chunk_by(|left, right| left == right) {
        put(&mut out, u64::from(alike[0]));
        put(&mut out, alike.len() as u64);
    }
    [counts, gaps, values, lengths].iter().for_each(|column| out.extend_from_slice(column));
    out
}

/// The value that most slots of `row` have.
fn most_frequent(block: &Block, row: usize) -> u32 {
    if let [only] = block.raw_runs(row) {
        return only.value;
    }
    let mut slots: HashMap<u32, u16> = HashMap::new();
    let mut from = 0;
    for run in block.raw_runs(row) {
        *slots.entry(run.value).or_default() += run.until - from;
        from = run.until;
    }
    // Of several the first: bytes are a function of the block.
    slots
        .into_iter()
        .max_by_key(|(value, slots)| (*slots, std::cmp::Reverse(*value)))
        .map_or(0, |most| most.0)
}

fn dictionaries(out: &mut Vec<u8>, values: &[Value]) {
    let losses = places(values.iter().filter_map(|value| value.loss));
    let addresses = places(losses.order.iter().filter_map(|loss| loss.address));
    put(out, addresses.order.len() as u64);
    for address in &addresses.order {
        put_address(out, address);
    }
    put(out, losses.order.len() as u64);
    for loss in &losses.order {
        put(out, loss.phase as u64);
        match loss.cause {
            Cause::Service(fault) => put(out, fault_number(fault)),
            Cause::Local(fault) => put(out, LOCAL + fault as u64),
        }
        if let Cause::Service(Fault::Status(status)) = loss.cause {
            put(out, u64::from(status));
        }
        put(out, loss.reached.map_or(0, |rung| rung as u64 + 1));
        put(out, loss.address.map_or(0, |address| addresses.place[&address] + 1));
    }
    put(out, values.len() as u64);
    for value in values {
        let loss = value.loss.map_or(0, |loss| losses.place[&loss] + 1);
        put(out, loss << 4 | u64::from(value.mark.bits()));
    }
}

/// Things that differ, each with its place in the order of their first occurrence.
struct Places<T> {
    order: Vec<T>,
    place: HashMap<T, u64>,
}

fn places<T: Copy + Eq + Hash>(things: impl Iterator<Item = T>) -> Places<T> {
    let mut places = Places { order: Vec::new(), place: HashMap::new() };
    for thing in things {
        places.place.entry(thing).or_insert_with(|| {
            places.order.push(thing);
            places.order.len() as u64 - 1
        });
    }
    places
}

fn read(mut reader: Reader<'_>, seconds: u16) -> Result<Block, Damage> {
    let rows = reader.at_most(ROWS as u64, "it has more rows than a block")? as usize;
    if reader.number()? != u64::from(seconds) {
        return Err(Damage("it spans another time than its key says"));
    }
    let values = read_dictionaries(&mut reader)?;
    let mut usual = Vec::with_capacity(rows);
    while usual.len() < rows {
        let value = place_of(&values, reader.number()?)?;
        let alike = reader.at_most((rows - usual.len()) as u64, "its rows are more than it has")?;
        if alike == 0 {
            return Err(Damage("a run of rows is empty"));
        }
        usual.resize(usual.len() + alike as usize, value);
    }
    let most = u64::from(seconds);
    let counts = (0..rows).map(|_| reader.at_most(most, "a row has more runs than seconds"));
    let counts = counts.collect::<Result<Vec<_>, _>>()?;
    let total = counts.iter().sum::<u64>();
    if total > reader.left() as u64 {
        return Err(Damage("it has more runs than bytes"));
    }
    let gaps = (0..total).map(|_| reader.at_most(most, "a run begins after the end"));
    let gaps = gaps.collect::<Result<Vec<_>, _>>()?;
    let told = (0..total).map(|_| reader.number()).collect::<Result<Vec<_>, _>>()?;
    let mut runs = gaps.into_iter().zip(told);
    let mut builder = Builder::new(seconds);
    // Where each value is in the block: looked up once, since looking up costs more than all else here.
    let mut places: Vec<Option<u32>> = vec![None; values.len()];
    let mut run = |builder: &mut Builder, until, value: usize| {
        let place = *places[value].get_or_insert_with(|| builder.place(values[value]));
        builder.run_at(until, place);
    };
    for (usual, count) in usual.into_iter().zip(counts) {
        let mut at = 0u16;
        for (gap, told) in runs.by_ref().take(count as usize) {
            let value = place_of(&values, told >> 1)?;
            let longer =
                if told & 1 == 1 { reader.at_most(most, "a run is longer than the block")? } else { 0 };
            // All three are at most the seconds of an hour.
            let from = at + gap as u16;
            let until = from + 1 + longer as u16;
            if until > seconds {
                return Err(Damage("a run ends after the block"));
            }
            if from > at {
                run(&mut builder, from, usual);
            }
            run(&mut builder, until, value);
            at = until;
        }
        if at < seconds {
            run(&mut builder, seconds, usual);
        }
        builder.end_row();
    }
    if reader.left() > 0 {
        return Err(Damage("something follows its end"));
    }
    Ok(builder.finish())
}

fn place_of(values: &[Value], place: u64) -> Result<usize, Damage> {
    let place = usize::try_from(place).ok().filter(|place| *place < values.len());
    place.ok_or(Damage("a value is not listed"))
}

fn read_dictionaries(reader: &mut Reader<'_>) -> Result<Vec<Value>, Damage> {
    let addresses = reader.list(read_address)?;
    let losses = reader.list(|reader| {
        let phase = listed(Phase::ALL, reader.number()?)?;
        let cause = match reader.number()? {
            number @ LOCAL.. => Cause::Local(listed(LocalFault::ALL, number - LOCAL)?),
            number => match listed(&Fault::ALL, number)? {
                Fault::Status(_) => {
                    let status = reader.at_most(u64::from(u16::MAX), "a status is no status")?;
                    Cause::Service(Fault::Status(status as u16))
                }
                fault => Cause::Service(fault),
            },
        };
        let reached = reader.number()?.checked_sub(1).map(|rung| listed(Evidence::ALL, rung)).transpose()?;
        let address = reader.number()?.checked_sub(1).map(|place| listed(&addresses, place)).transpose()?;
        Ok(Loss { phase, cause, reached, address })
    })?;
    reader.list(|reader| {
        let number = reader.number()?;
        let loss = (number >> 4).checked_sub(1).map(|place| listed(&losses, place)).transpose()?;
        Ok(Value { mark: Mark::from_bits((number & 0b1111) as u8), loss })
    })
}

fn listed<T: Copy>(list: &[T], place: u64) -> Result<T, Damage> {
    usize::try_from(place)
        .ok()
        .and_then(|place| list.get(place))
        .copied()
        .ok_or(Damage("a number stands for nothing"))
}

/// Local faults are numbered from here; the numbers below are the service's.
const LOCAL: u64 = 32;

/// The number of a fault in what is stored; once given, never given to another.
const fn fault_number(fault: Fault) -> u64 {
    match fault {
        Fault::BadCertificate => 0,
        Fault::Closed => 1,
        Fault::NameNotFound => 2,
        Fault::Refused => 3,
        Fault::Reset => 4,
        Fault::Resolver => 5,
        Fault::Status(_) => 6,
        Fault::Timeout => 7,
        Fault::TlsProtocol => 8,
        Fault::Unreachable => 9,
    }
}

const V4: u8 = 4;
const V6: u8 = 6;
/// With flow and scope.
const V6_SCOPED: u8 = 7;

fn put_address(out: &mut Vec<u8>, address: &SocketAddr) {
    match address {
        SocketAddr::V4(v4) => {
            out.push(V4);
            out.extend_from_slice(&v4.ip().octets());
        }
        SocketAddr::V6(v6) => {
            let is_scoped = v6.flowinfo() != 0 || v6.scope_id() != 0;
            out.push(if is_scoped { V6_SCOPED } else { V6 });
            out.extend_from_slice(&v6.ip().octets());
            if is_scoped {
                put(out, u64::from(v6.flowinfo()));
                put(out, u64::from(v6.scope_id()));
            }
        }
    }
    out.extend_from_slice(&address.port().to_be_bytes());
}

fn read_address(reader: &mut Reader<'_>) -> Result<SocketAddr, Damage> {
    let [form] = reader.bytes()?;
    match form {
        V4 => {
            let ip = Ipv4Addr::from(reader.bytes::<4>()?);
            Ok(SocketAddrV4::new(ip, u16::from_be_bytes(reader.bytes()?)).into())
        }
        V6 | V6_SCOPED => {
            let ip = Ipv6Addr::from(reader.bytes::<16>()?);
            let mut scoped = || match form {
                V6_SCOPED => Ok(reader.at_most(u64::from(u32::MAX), "a scope is no scope")? as u32),
                _ => Ok(0),
            };
            let (flow, scope) = (scoped()?, scoped()?);
            Ok(SocketAddrV6::new(ip, u16::from_be_bytes(reader.bytes()?), flow, scope).into())
        }
        _ => Err(Damage("an address is none")),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{
        super::block::{
            Editor,
            tests::{any_block, any_told, block_of},
        },
        *,
    };

    proptest! {
        #[test]
        fn a_block_comes_back_as_it_was(minute in any_block(60), hour in any_block(3_600)) {
            prop_assert_eq!(decode(&encode(&minute), 60), Ok(minute.clone()));
            prop_assert_eq!(decode(&encode(&hour), 3_600), Ok(hour));
            prop_assert!(decode(&encode(&minute), 3_600).is_err(), "a minute is no hour");
        }

        #[test]
        fn the_join_of_two_blocks_is_the_block_of_the_slots_of_both(one in any_told(60), other in any_told(60)) {
            let through_bytes = |told: &[_]| decode(&encode(&block_of(60, told)), 60).unwrap();
            let mut editor = Editor::new(60);
            editor.merge_block(0, &through_bytes(&one));
            editor.merge_block(0, &through_bytes(&other));
            let both: Vec<_> = one.into_iter().chain(other).collect();
            prop_assert_eq!(encode(&editor.finish()), encode(&block_of(60, &both)));
        }

        #[test]
        fn damage_is_an_error_and_never_a_panic(
            block in any_block(60), at in any::<prop::sample::Index>(), bit in 0u8..8, keep in any::<prop::sample::Index>(),
        ) {
            let good = encode(&block);
            let mut bytes = good.to_vec();
            *at.get_mut(&mut bytes) ^= 1 << bit;
            prop_assert!(decode(&bytes, 60).is_err());
            prop_assert!(decode(&good[..keep.index(good.len())], 60).is_err());
        }

        #[test]
        fn bytes_with_a_good_checksum_are_read_within_bounds(
            form in prop_oneof![Just(PLAIN), Just(PLAIN + 1), any::<u8>()],
            body in prop::collection::vec(prop_oneof![0u8..4, any::<u8>()], 0..200),
        ) {
            if let Ok(block) = decode(&framed(form, &body), 60) {
                prop_assert_eq!(decode(&encode(&block), 60), Ok(block));
            }
        }
    }

    #[test]
    fn numbers_in_what_is_stored_never_change() {
        let names: Vec<_> = (0..10)
            .map(|number| Fault::ALL.into_iter().find(|fault| fault_number(*fault) == number).unwrap().name())
            .collect();
        assert_eq!(
            names.join(" "),
            "bad_certificate closed name_not_found refused reset resolver status timeout tls_protocol unreachable"
        );
        assert!(Fault::ALL.iter().enumerate().all(|(place, fault)| fault_number(*fault) == place as u64));
        let local: Vec<_> = LocalFault::ALL.iter().map(|fault| fault.name()).collect();
        assert_eq!(local.join(" "), "bug clock_step no_buffers no_files no_ports no_route starved");
        let phases: Vec<_> = Phase::ALL.iter().map(|phase| phase.name()).collect();
        assert_eq!(phases.join(" "), "dns connect tls send confirm");
        let rungs: Vec<_> = Evidence::ALL.iter().map(|rung| rung.name()).collect();
        assert_eq!(rungs.join(" "), "sent kernel_acked peer_closed app_acked stored");
    }
}

use super::*;
use crate::block::BlockBuilder;
use proptest::prelude::*;

type Read = (u64, i64, Vec<(Vec<(u32, i64)>, u32, Vec<(u32, Vec<Option<i64>>)>)>, Vec<pb::Event>);

/// All that a batch says, by the borrowed reading.
fn read(bytes: &[u8]) -> Result<Read, Irregular> {
    let batch = Batch::read(bytes)?;
    let mut blocks = Vec::new();
    for block in batch.blocks() {
        let block = block?;
        block.validate().map_err(|_| Irregular)?;
        let runs = block.run.unsigned().map(|run| run as usize).chain(std::iter::repeat(1));
        let entities = block.entity.unsigned().zip(runs).flat_map(|(entity, run)| std::iter::repeat_n(entity as u32, run));
        let rows = entities.zip(block.stamps(batch.base_us)).collect();
        let mut columns = Vec::new();
        for column in block.columns() {
            let column = column?;
            column.validate(block.rows()).map_err(|_| Irregular)?;
            columns.push((column.metric, column.values(block.rows()).collect()));
        }
        blocks.push((rows, block.stamp_error_us, columns));
    }
    Ok((batch.sequence, batch.base_us, blocks, batch.events().collect::<Result<_, _>>()?))
}

/// The same by way of vectors.
fn owned(bytes: &[u8]) -> Option<Read> {
    let batch = pb::Batch::decode(bytes).ok()?;
    batch.blocks.iter().try_for_each(block::validate).ok()?;
    let blocks = batch.blocks.iter().map(|block| {
        let values = |column: &pb::Column| (column.metric, block::values(column, block.dt_us.len()).collect());
        (block::rows(block, batch.base_us).collect(), block.stamp_error_us, block.columns.iter().map(values).collect())
    });
    Some((batch.sequence, batch.base_us, blocks.collect(), batch.events.clone()))
}

fn batch() -> impl Strategy<Value = pb::Batch> {
    let row = (0..300u32, any::<i64>(), proptest::collection::vec(proptest::option::of(any::<i64>()), 3));
    let table = proptest::collection::vec(row, 0..40).prop_map(|rows| {
        let mut builder = BlockBuilder::new(0, &[7, 8, 900], 500);
        rows.iter().for_each(|(entity, stamp, values)| builder.push(*entity, *stamp, values.iter().copied()));
        builder.finish()
    });
    let event = (any::<i64>(), any::<u32>(), "[a-z]{0,9}").prop_map(|(dt_us, entity, kind)| pb::Event {
        dt_us,
        entity,
        kind,
        ..Default::default()
    });
    let (tables, events) = (proptest::collection::vec(table, 0..3), proptest::collection::vec(event, 0..3));
    (any::<u64>(), any::<i64>(), tables, events, any::<i64>())
        .prop_map(|(sequence, base_us, blocks, events, built_us)| pb::Batch { sequence, base_us, blocks, events, built_us })
}

proptest! {
    #[test]
    fn a_batch_says_the_same_where_it_lies(batch in batch()) {
        let bytes = batch.encode_to_vec();
        prop_assert_eq!(read(&bytes).ok(), owned(&bytes));
        prop_assert_eq!(regular(&bytes).unwrap(), bytes);
    }

    /// What is read at all is what protocol buffers say that it is.
    #[test]
    fn bytes_that_were_tampered_with_say_the_same_or_nothing(batch in batch(), at: usize, byte: u8, cut in 0..9usize) {
        let mut bytes = batch.encode_to_vec();
        let length = bytes.len();
        if length > 0 {
            bytes[at % length] = byte;
            bytes.truncate(length - cut % length);
        }
        if let (Ok(read), Some(owned)) = (read(&bytes), owned(&bytes)) {
            prop_assert_eq!(read, owned);
        }
    }

    #[test]
    fn bytes_from_anywhere_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = read(&bytes);
    }
}

/// A block that says its rows twice over and not packed, as other encoders may.
#[test]
fn what_is_encoded_otherwise_is_read_after_it_has_been_made_regular() {
    let column = [8, 5, 16, 2, 16, 4];
    let block = [&[8, 1, 8, 2, 24, 6, 24, 8, 42, column.len() as u8], &column[..]].concat();
    let bytes = [&[8, 3, 26, block.len() as u8], &block[..]].concat();
    assert_eq!(read(&bytes), Err(Irregular));
    let (sequence, _, blocks, _) = read(&regular(&bytes).unwrap()).unwrap();
    assert_eq!((sequence, blocks), (3, vec![(vec![(1, 3), (2, 7)], 0, vec![(5, vec![Some(1), Some(3)])])]));
}

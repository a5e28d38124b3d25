use tidelog_types::PartitionIndex;

/// The partition of `__consumer_offsets` in which a group lives: Java's `String.hashCode` over UTF-16 units, made positive,
/// modulo the number of partitions.
///
/// ```
/// use tidelog_coordinator::group::partition_for;
///
/// assert_eq!(partition_for("test-group", 50), 12);
/// ```
pub fn partition_for(group_id: &str, partitions: i32) -> PartitionIndex {
    let hash = group_id.encode_utf16().fold(0_i32, |hash, unit| {
        hash.wrapping_mul(31).wrapping_add(i32::from(unit))
    });
    // Kafka's absolute value of the smallest number is 0, where Java's own is negative.
    let positive = hash.checked_abs().unwrap_or(0);
    positive % partitions.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Hard corner 37. The expected numbers are what a JVM computes; the hash of the last one is `Integer.MIN_VALUE`.
    #[test]
    fn the_partition_is_the_one_that_java_computes() {
        for (group_id, partition) in [
            ("", 0),
            ("a", 47),
            ("console-consumer-12345", 6),
            ("größe", 7),
            ("\u{1f600}-group", 43),
            ("polygenelubricants", 0),
        ] {
            assert_eq!(partition_for(group_id, 50), partition, "{group_id}");
        }
    }
}

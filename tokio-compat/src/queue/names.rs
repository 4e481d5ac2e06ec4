//! The names of streams, subjects and consumers, as Dynamo gives them (discovery specification, 1.2 and 11.2).

use ringplane_core::discovery::instance::slug;

use crate::queue::error::Error;

/// The consumer that all workers of a queue share.
pub const GROUP: &str = "worker-group";
/// The last word of a task's subject.
pub const QUEUE: &str = "queue";
/// What follows the name of a queue in that of its dead letters.
pub const DEAD: &str = "_dead";

/// The stream of a queue.
pub(crate) fn stream(queue: &str) -> Result<String, Error> {
    let stream = slug(queue);
    if stream.is_empty() { Err(Error::Name(queue.to_owned())) } else { Ok(stream) }
}

/// All subjects of a stream.
pub(crate) fn subjects(stream: &str) -> String {
    format!("{stream}.*")
}

/// The subject of tasks, or of one kind of events.
pub(crate) fn subject(stream: &str, event: &str) -> Result<String, Error> {
    let word = |c: char| !(c.is_whitespace() || c.is_control() || matches!(c, '.' | '*' | '>'));
    if event.is_empty() || !event.chars().all(word) {
        return Err(Error::Event(event.to_owned()));
    }
    Ok(format!("{stream}.{event}"))
}

/// The event that a subject names.
pub(crate) fn event(subject: &str) -> &str {
    subject.rsplit_once('.').map_or(subject, |(_, event)| event)
}

/// The stream of a stream's dead letters.
pub(crate) fn dead(stream: &str) -> String {
    format!("{stream}{DEAD}")
}

/// The last word of a dead letter's subject that has no headers: its event, and where it comes from.
pub(crate) fn bare(event: &str, consumer: &str, sequence: u64, tries: u64) -> String {
    format!("{event}/{consumer}/{sequence}/{tries}")
}

/// What such a word in a queue of dead letters says: event, consumer, sequence and tries.
pub(crate) fn read_bare<'a>(stream: &str, word: &'a str) -> Option<(&'a str, &'a str, u64, u64)> {
    let mut words = word.rsplitn(4, '/');
    let (tries, sequence) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    let (consumer, event) = (words.next()?, words.next()?);
    stream.ends_with(DEAD).then_some((event, consumer, sequence, tries))
}

/// A consumer's name, if it is one.
pub(crate) fn consumer(name: &str) -> Result<&str, Error> {
    let letter = |c: char| !(c.is_whitespace() || c.is_control() || matches!(c, '.' | '*' | '>' | '/' | '\\'));
    if name.is_empty() || !name.chars().all(letter) { Err(Error::Consumer(name.to_owned())) } else { Ok(name) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_is_called_as_dynamo_calls_it() {
        assert_eq!(stream("my_ns_prefill_queue").unwrap(), "my_ns_prefill_queue");
        assert_eq!(stream("My.Queue").unwrap(), "my_queue");
        assert_eq!(stream("..").unwrap_err().to_string(), "`..` is no name of a queue: it needs a letter or a digit");
        assert_eq!(subjects("my_queue"), "my_queue.*");
        assert_eq!(subject("my_queue", QUEUE).unwrap(), "my_queue.queue");
        assert_eq!(event("my_queue.kv_event"), "kv_event");
        assert_eq!(dead("my_queue"), "my_queue_dead");
    }

    #[test]
    fn a_dead_letter_without_headers_says_in_its_subject_where_it_comes_from() {
        let word = bare("a/b", "worker-group", 17, 5);
        assert_eq!(read_bare("q_dead", &word), Some(("a/b", "worker-group", 17, 5)));
        assert_eq!(read_bare("q", &word), None);
        for word in ["queue", "a/b", "a/b/c/d", "b/1/2"] {
            assert_eq!(read_bare("q_dead", word), None, "{word}");
        }
    }

    #[test]
    fn what_separates_words_at_nats_is_in_no_name() {
        for name in ["", "a.b", "a b", "*", ">", "a\n"] {
            assert!(matches!(subject("s", name), Err(Error::Event(_))), "{name:?}");
            assert!(matches!(consumer(name), Err(Error::Consumer(_))), "{name:?}");
        }
        assert!(consumer("a/b").is_err() && subject("s", "a/b").is_ok());
        assert_eq!(consumer("router-1f").unwrap(), "router-1f");
    }
}

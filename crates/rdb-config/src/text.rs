//! A file's bytes as text, without taking what is no text for something else.

/// A text, and where its bytes were not UTF-8.
#[derive(Default)]
pub(crate) struct Text {
    /// The text, with U+FFFD for bytes that are not UTF-8.
    pub(crate) text: String,
    /// Where in the text such a character stands for other bytes, in order.
    pub(crate) replaced: Vec<usize>,
    /// How many bytes there were.
    pub(crate) size: usize,
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        Self {
            text: text.to_owned(),
            replaced: Vec::new(),
            size: text.len(),
        }
    }
}

impl From<&[u8]> for Text {
    fn from(bytes: &[u8]) -> Self {
        let mut read = Self {
            size: bytes.len(),
            ..Self::default()
        };
        for chunk in bytes.utf8_chunks() {
            read.text.push_str(chunk.valid());
            if !chunk.invalid().is_empty() {
                read.replaced.push(read.text.len());
                read.text.push(char::REPLACEMENT_CHARACTER);
            }
        }
        read
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_replaced_is_noted() {
        let read = Text::from("a\u{fffd}b\u{ff}\u{e4}".as_bytes());
        assert!(read.replaced.is_empty());
        let read = Text::from(&b"a\xef\xbf\xbd\xff\xc3\xa4\xc3"[..]);
        assert_eq!(read.text, "a\u{fffd}\u{fffd}\u{e4}\u{fffd}");
        assert_eq!((read.replaced.as_slice(), read.size), (&[4, 9][..], 8));
    }
}

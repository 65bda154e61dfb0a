//! The keys under which a recipient may stand in the file, in Postfix's order.

use waypost_sdk::Mailbox;

/// `user+extension@domain`, `user@domain`, `domain`, `.parent`…, `*`; all in lower case.
pub fn keys(recipient: &Mailbox, delimiter: &str) -> Vec<String> {
    let domain = recipient.domain.to_lowercase();
    let local = recipient.local_part.to_lowercase();
    let mut keys = vec![format!("{local}@{domain}")];
    let extension = local
        .char_indices()
        .skip(1)
        .find(|(_, character)| delimiter.contains(*character));
    if let Some((position, _)) = extension {
        keys.push(format!("{}@{domain}", &local[..position]));
    }
    keys.push(domain.clone());
    let mut rest = domain.as_str();
    while let Some((_, parent)) = rest.split_once('.') {
        keys.push(format!(".{parent}"));
        rest = parent;
    }
    keys.push("*".into());
    keys
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_come_in_the_order_of_transport_5() {
        let recipient = Mailbox::new("Ann+lists", "mail.example.com");
        assert_eq!(
            keys(&recipient, "+-"),
            [
                "ann+lists@mail.example.com",
                "ann@mail.example.com",
                "mail.example.com",
                ".example.com",
                ".com",
                "*",
            ]
        );
    }

    #[test]
    fn a_delimiter_at_the_start_begins_no_extension() {
        assert_eq!(keys(&Mailbox::new("+x", "a.b"), "+").len(), 4);
    }
}

//! Mailboxes that a plugin puts in place of others: within its grant, in every
//! phase.

use smtp::{Mailbox, ReversePath};

use super::Fault;
use crate::dialogue::{MessageAction, RecipientAction, SenderAction};
use crate::environment::CallEnvironment;
use crate::grants::Grants;
use crate::phase::{Input, Output};

/// Whether each mailbox that takes the place of another is one the plugin may name.
/// To drop a recipient, to leave one as it is or to take the null reverse-path needs
/// no grant: no mail goes anywhere by it.
pub(crate) fn check(
    grants: &Grants,
    input: Option<&Input>,
    environment: &dyn CallEnvironment,
    output: &Output,
) -> Result<(), Fault> {
    match output {
        Output::MailFrom(verdict) => match &verdict.action {
            SenderAction::Rewrite(Some(mailbox)) => covered(grants, "rewrite", mailbox),
            _ => Ok(()),
        },
        Output::Rcpt(verdict) => match &verdict.action {
            RecipientAction::Rewrite(mailboxes) => {
                let stays = |mailbox: &Mailbox| match input {
                    Some(Input::Rcpt(given)) => given.mailbox == *mailbox,
                    _ => false,
                };
                all_covered(grants, "rewrite", mailboxes, stays)
            }
            _ => Ok(()),
        },
        Output::Message(verdict) => match &verdict.action {
            MessageAction::Rewrite(rewrite) => {
                if let Some(mailboxes) = &rewrite.recipients {
                    let known = environment.envelope_recipients();
                    let stays = |mailbox: &Mailbox| known.iter().any(|one| one.mailbox == *mailbox);
                    all_covered(grants, "rewrite.recipients", mailboxes, stays)?;
                }
                match &rewrite.sender {
                    Some(ReversePath::Mailbox(mailbox)) => {
                        covered(grants, "rewrite.sender", mailbox)
                    }
                    _ => Ok(()),
                }
            }
            _ => Ok(()),
        },
        Output::Route(_) | Output::Delivery(_) => Ok(()),
    }
}

fn all_covered(
    grants: &Grants,
    list: &str,
    mailboxes: &[Mailbox],
    stays: impl Fn(&Mailbox) -> bool,
) -> Result<(), Fault> {
    for (index, mailbox) in mailboxes.iter().enumerate() {
        // The grant first: it is the quicker look.
        if !grants.covers_mailbox(mailbox) && !stays(mailbox) {
            return covered(grants, &format!("{list}[{index}]"), mailbox);
        }
    }
    Ok(())
}

fn covered(grants: &Grants, place: &str, mailbox: &Mailbox) -> Result<(), Fault> {
    if grants.covers_mailbox(mailbox) {
        return Ok(());
    }
    let domain = mailbox.domain();
    let problem = format!("{domain} is not covered by the grant rewrite_domains");
    Err(Fault::new(place, problem))
}

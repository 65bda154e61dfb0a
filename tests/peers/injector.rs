//! A client of a few lines that knows which of its messages were acknowledged.

use std::io::{self, BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// One connection to the relay.
pub(crate) struct Injector {
    reader: BufReader<TcpStream>,
}

impl Injector {
    /// Connects and says EHLO.
    ///
    /// # Errors
    /// When nobody listens, or the greeting is no welcome.
    pub(crate) fn connect(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        let mut injector = Self {
            reader: BufReader::new(stream),
        };
        injector.expect(220)?;
        injector.command("EHLO injector.test", 250)?;
        Ok(injector)
    }

    /// Sends one message; `Ok` means that its end was answered 250.
    ///
    /// # Errors
    /// When the connection breaks or another reply comes: then nothing is known about the message.
    pub(crate) fn send(
        &mut self,
        recipients: &[&str],
        subject: &str,
        body: &str,
    ) -> io::Result<()> {
        self.command("MAIL FROM:<sender@injector.test>", 250)?;
        for recipient in recipients {
            self.command(&format!("RCPT TO:<{recipient}>"), 250)?;
        }
        self.command("DATA", 354)?;
        let content = format!(
            "From: <sender@injector.test>\r\nSubject: {subject}\r\n\
             Message-ID: <{subject}@injector.test>\r\n\r\n{body}\r\n.\r\n"
        );
        self.reader.get_mut().write_all(content.as_bytes())?;
        self.expect(250)
    }

    fn command(&mut self, command: &str, code: u16) -> io::Result<()> {
        self.reader
            .get_mut()
            .write_all(format!("{command}\r\n").as_bytes())?;
        self.expect(code)
    }

    /// Reads a reply, however many lines it has.
    fn expect(&mut self, code: u16) -> io::Result<()> {
        loop {
            let mut line = String::new();
            self.reader.read_line(&mut line)?;
            if !line.starts_with(&code.to_string()) {
                return Err(io::Error::other(format!("{code} expected, not {line:?}")));
            }
            if line.as_bytes().get(3) == Some(&b' ') {
                return Ok(());
            }
        }
    }
}

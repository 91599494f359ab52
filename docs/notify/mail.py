"""Mails what became of a run: `notify: [{name: mail, command: [python3, mail.py, TO]}]` of a pipeline.

SMTP_HOST names the server, `mail.example.org:465` or without a port; it is spoken to over TLS, and its certificate is
checked. SMTP_USER sends, and SMTP_PASSWORD is the user's. The JSON comes from the standard input.
"""

import email.message
import json
import os
import smtplib
import ssl
import sys


def main() -> None:
    """Send one mail."""
    told = json.load(sys.stdin)
    host, _, port = os.environ["SMTP_HOST"].partition(":")
    message = email.message.EmailMessage()
    message["Subject"] = f"crossfarm: {told['run']['headline']}"
    message["From"], message["To"] = os.environ["SMTP_USER"], sys.argv[1]
    message.set_content(told["text"])
    with smtplib.SMTP_SSL(host, int(port or 465), timeout=20, context=ssl.create_default_context()) as server:
        server.login(os.environ["SMTP_USER"], os.environ["SMTP_PASSWORD"])
        server.send_message(message)


if __name__ == "__main__":
    main()

"""The backend ethos_u: Arm's compiler Vela says what an Ethos-U would take; nothing runs on one here."""

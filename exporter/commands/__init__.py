"""What each command does; those on one account may run beside a `serve`, whose ledger and tokens they share."""

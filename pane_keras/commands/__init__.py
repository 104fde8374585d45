"""What the commands of `pane-keras` do, one file a command: functions of the parsed arguments."""

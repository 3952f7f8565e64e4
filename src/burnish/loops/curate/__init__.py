"""Curation: functions that turn a model and a task into a data set that says where it came from."""

"""The wire of Tally: .proto files with their generated code beside them (`make proto`)."""

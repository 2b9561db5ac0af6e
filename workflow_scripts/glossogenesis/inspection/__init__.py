"""What a file or folder of a study is, in words: its kind, schema, provenance and first rows."""

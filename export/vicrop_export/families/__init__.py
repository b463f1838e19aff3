"""Model families: what each makes of a checkpoint's files, a folder each, and the table of them."""

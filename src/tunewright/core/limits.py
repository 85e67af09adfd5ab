"""What protects against whatever is sent in: every default limit, with the reason for its size."""

from __future__ import annotations

# Answers
REQUEST_SCHEMA_BYTES = 64 << 10
"""Bytes of a JSON Schema that a request brings (`response_format`). The largest of known APIs have some ten thousand; a
grammar is made of one in a second."""
DEEPEST_SCHEMA = 120
"""Levels of brackets in a JSON Schema. The library that makes the grammar reads 128."""
MOST_FORCED_LETTERS = 8192
"""Letters of the shortest answer that a schema allows: they would be written without asking the model."""
ENDING_TOKENS = 4096
"""Tokens in which an answer that grew too long must come to its end."""
LONGEST_STOP = 256
"""Letters of a text that ends an answer. Stop texts are a few words."""
LETTERS_A_TOKEN = 100
"""Letters of a text for each token of a model's window, beyond which it is refused unread, of tokenizers that have one
token for any unknown word: a word of more than 100 letters is one to them. Others know their longest token."""
MOST_CHUNKS = 64
"""Windows of one document that a request may have. Nobody waits for more."""
MOST_NGRAMS = 1_000_000
"""N-grams of a text that a linear model reads: some 300 kB, a third of a second."""

# Chat templates, which come with models
TEMPLATE_LETTERS = 1 << 17
"""Letters of a template's source. The longest of known models have 30 thousand."""
TEMPLATE_STEPS = 1 << 23
"""Letters, turns and calls of a rendering, together: a fraction of a second, some ten megabytes."""
TEMPLATE_STEPS_A_LETTER = 64
"""Of these, what each letter of the messages allows for besides."""
TEMPLATE_SECONDS = 20.0
"""That a rendering may take."""

# Documents
DOCUMENT_BYTES = 64 << 20
"""Bytes of a document in a folder of data. A model this small reads a few pages."""
REQUEST_DOCUMENT_BYTES = 16 << 20
"""Bytes of a document in a request."""
DOCUMENT_MEMORY_BYTES = 1 << 30
"""Bytes of address space that reading one document may take beside the reading process itself. 56 MiB of plain text
take 850 MB, a mail of 60 MiB 600; a PDF of 3 kB can be made to take any memory."""
DOCUMENT_CPU_SECONDS = 60
"""Seconds of processor time that reading one document of a folder of data may take: four times what a PDF or hOCR of
a thousand pages takes."""
REQUEST_DOCUMENT_CPU_SECONDS = 20
"""The same, of a document in a request. Many such documents let others wait."""
DOCUMENT_WALL_SECONDS = 180
"""Seconds that reading one document may take on the clock, on a machine that does other work or where the reading
process is stuck. A request must be answered sooner."""
DOCUMENT_TEXT_BYTES = 64 << 20
"""Bytes of UTF-8 of a document's text: as many as a document may have itself. The process that needs it holds it a few
times."""
DOCUMENT_IN_PROCESS_BYTES = 1 << 20
"""Bytes of plain text up to which it is read without a process of its own: its work is linear, and takes
milliseconds."""
DOCUMENT_FAR = 1e9
"""Units from its page's origin within which a word may stand. A page in pixels, points or 1/1200 inches has some
thousands; of numbers near the largest that there are differences and means are none."""
MAIL_SUBJECT_CHARACTERS = 4096
"""Characters of a mail's subject that are read: Python's decoder of encoded words is quadratic in it."""
MAIL_HEADER_CHARACTERS = 8192
"""Characters of a mail's header about its content (Content-Type and such), whose parser in Python is quadratic in it.
Real ones have two hundred."""
MAIL_PARTS = 200
"""Parts of a mail that are looked at. Real ones have ten."""
MAIL_DEPTH = 50
"""Parts of a mail within each other: every line is compared with the end of each. A forwarded message has two or
three more than the one it is in."""

# Requests
MOST_UNDER_WAY = 64
"""Requests that are answered or wait for it; a further one comes again later (`--limit-concurrency`)."""
ANSWER_SECONDS = 120.0
"""In which a request must be answered (`--timeout`)."""
MOST_BODY_BYTES = 3 * REQUEST_DOCUMENT_BYTES // 2
"""Bytes of a request: a document in base64, which takes a third more, and what stands around it."""
BODY_SECONDS = 30.0
"""In which a body must have been sent."""
JSON_DEPTH = 100
"""Levels of nesting in JSON. Real rows and requests have ten; what is behind fails somewhere above two hundred."""
JSON_PARTS = 500_000
"""Commas and opening brackets in a request, in texts too. A megabyte of prose has twenty thousand; so many are read
in a tenth of a second, in which nobody else is answered."""
SIGN_IN_TRIES = 10
"""Of an address in a minute, at the review app."""

# Connections and bodies
MOST_CONNECTIONS = 2048
"""Connections that a server has at a time. Each takes some tens of kilobytes, and a server that answers 64 requests
at a time has no use for more."""
RESERVED_DESCRIPTORS = 128
"""File descriptors that connections leave to a server for its model, its journal, its database, and what it asks."""
REQUEST_SECONDS = 10.0
"""In which a connection must have sent the head of a request, counted from its beginning or its last answer. Honest
clients send it at once; a mobile phone that loses packets takes a few seconds."""
STALLED_SECONDS = 30.0
"""In which a client must take `STALLED_BYTES` of an answer that is sent to it."""
STALLED_BYTES = 16 << 10
"""That an answer which waits in memory must shrink by in `STALLED_SECONDS`: 550 bytes a second, which a modem takes."""
HEAD_BYTES = 16 << 10
"""Bytes of a request's line and headers. Tokens of identity providers have up to some 8 KiB."""
SMALL_BODY_BYTES = 64 << 10
"""Bytes of a body that need no share of `BODY_BYTES_AT_ONCE`, so that large bodies keep no plain question out, and that
strangers may send to the review app."""
BODY_BYTES_AT_ONCE = 256 << 20
"""Bytes of bodies that a server holds at a time, those that are being sent and those of requests under way. Ten of the
largest requests; what a body becomes, text and JSON, takes a few times as much."""
FORM_BYTES_AT_ONCE = 64 << 20
"""The same of the review app, whose largest form has 4 MiB."""
READERS_PER_PLACE = 4
"""Bodies that are being sent, for each request that is answered at a time."""
FORM_READERS = 64
"""Forms that are being sent to the review app."""
LOGGED_SECONDS = 1.0
"""Between two lines of one kind in a log that others can make grow."""

# Tokenizers of models from elsewhere
PROBE_TEXT = 100_000
"""Characters of each text that an unusual tokenizer is tried on: enough for a pattern that takes the square of a text's
length to take minutes, where a usual one takes milliseconds."""
PROBE_CPU_SECONDS = 30
"""That such a try may take. A tokenizer with 250 thousand pieces takes two."""
PROBE_SECONDS = 120
"""The same on the wall clock, for a machine that has much else to do."""
PROBE_MEMORY = 4 << 30
"""Bytes of address space of such a try; a tokenizer with 250 thousand pieces touches 0.7 GB."""
TOKENIZER_GROWTH = 4
"""Characters that a tokenizer may put in the place of one; SentencePiece's own put one, GPT-4's none."""
TOKENIZER_LONGEST_WORD = 1000
"""Characters of a word that WordPiece cuts in a number of steps that is their cube; BERT's own limit is 100."""
TOKENIZER_LONGEST_PIECE = 256
"""Characters of a token that Unigram tries at each place of a text; SentencePiece's own limit is 16."""
TOKENIZER_LARGEST_NUMBER = 1 << 24
"""Of a token; the largest vocabularies that are known have a quarter of a million."""

# Batches
BATCH_LINE_BYTES = 24 << 20
"""Bytes in a line of a batch. A document of 16 MiB, which a line may hold, has 22 MiB as base64."""
BATCH_CHUNK_BYTES = 64 << 20
"""Bytes of lines that a worker of a batch holds at once; a longer line is held alone."""

# Specs and the schemas in them
SPEC_BYTES = 512 << 10
"""Bytes in a spec, and letters in it once its anchors are put in. 5,000 labels with a line on each have as many."""
SPEC_DEPTH = 64
"""Levels of nesting in a spec. One with a record's schema has twenty."""
SPEC_NODES = 100_000
"""Values and keys in a spec once its anchors are put in; its labels are most of them."""
SPEC_DIGITS = 100
"""Characters in a number of a spec."""
SPEC_FAULTS = 10
"""Faults of a spec that an error lists."""
SCHEMA_BYTES = 256 << 10
"""Bytes in a record's schema. A spec that is saved holds it."""
SCHEMA_NODES = 5_000
"""Schemas in a record's schema once its references are put in; a field is one or two."""
SCHEMA_PATTERNS = 100
"""Regular expressions in a schema: each may take PATTERN_MEMORY."""
PATTERN_LENGTH = 2_000
"""Characters in a regular expression from outside."""
PATTERN_MEMORY = 16 << 20
"""Bytes that RE2 may take for one: enough for 200 letters of any script in a row."""
RECORD_BYTES = 1 << 20
"""Characters in an answer that is a record. No model this small writes so much."""
RECORD_CHECKS = 200_000
"""Keywords of a schema that are looked at for one record. A record of 2,000 lines with ten fields takes 80,000."""
COMBINING_MARKS = 30
"""Combining marks in a row, above which a grapheme joiner parts them: the Stream-Safe Text Format of UAX #15. To
normalise a run takes time that grows with its square."""

"""The default limits on input from outside, each with the reason for its size."""

from __future__ import annotations

# Answers
REQUEST_SCHEMA_BYTES = 64 << 10
"""Bytes of a JSON Schema in a request (`response_format`). The largest of known APIs have some ten thousand, and a
grammar for one takes a second."""
DEEPEST_SCHEMA = 120
"""Levels of brackets in a JSON Schema. The library that builds the grammar reads 128."""
MOST_FORCED_LETTERS = 8192
"""Letters of the shortest answer that a schema allows. They would be written without the model."""
ENDING_TOKENS = 4096
"""Tokens within which an answer that grew too long must end."""
LONGEST_STOP = 256
"""Letters of a text that ends an answer. Stop texts have a few words."""
LETTERS_A_TOKEN = 100
"""Letters of a text per token of a model's window. Longer texts are refused before tokenization, if the tokenizer has
one token for any unknown word; such a tokenizer treats words of more than 100 letters as unknown. Other tokenizers have
a known longest token."""
MOST_CHUNKS = 64
"""Windows of one document in a request. Nobody waits for more."""
MOST_NGRAMS = 1_000_000
"""N-grams of a text that a linear model reads: some 300 kB, a third of a second."""

# Chat templates, which come with models
TEMPLATE_LETTERS = 1 << 17
"""Letters of a template's source. The longest of known models have 30 thousand."""
TEMPLATE_STEPS = 1 << 23
"""Letters, turns and calls of a rendering, together: a fraction of a second, some ten megabytes."""
TEMPLATE_STEPS_A_LETTER = 64
"""Further steps for each letter of the messages."""
TEMPLATE_SECONDS = 20.0
"""Seconds that a rendering may take."""

# Documents
DOCUMENT_BYTES = 64 << 20
"""Bytes of a document in a data folder. A model this small reads a few pages."""
REQUEST_DOCUMENT_BYTES = 16 << 20
"""Bytes of a document in a request."""
DOCUMENT_MEMORY_BYTES = 1 << 30
"""Bytes of address space for reading one document, beside the reading process itself. 56 MiB of plain text take 850 MB,
a mail of 60 MiB takes 600; a hostile PDF of 3 kB can take any amount."""
DOCUMENT_CPU_SECONDS = 60
"""Seconds of processor time for reading one document of a data folder: four times the time of a PDF or hOCR of a
thousand pages."""
REQUEST_DOCUMENT_CPU_SECONDS = 20
"""The same for a document in a request, because many such documents delay other requests."""
DOCUMENT_WALL_SECONDS = 180
"""Seconds of wall-clock time for reading one document, for busy machines and stuck reading processes. A request's own
deadline is shorter."""
DOCUMENT_TEXT_BYTES = 64 << 20
"""Bytes of a document's text in UTF-8: as many as the document itself may have. The process that uses the text holds it
a few times."""
DOCUMENT_IN_PROCESS_BYTES = 1 << 20
"""Bytes of plain text that are read without a separate process, because the work is linear and takes milliseconds."""
DOCUMENT_FAR = 1e9
"""Units from a page's origin within which a word may stand. A page in pixels, points or 1/1200 inches has some
thousands. Near the largest floating-point numbers, differences and means overflow."""
MAIL_SUBJECT_CHARACTERS = 4096
"""Characters of a mail's subject that are read. Python's decoder of encoded words is quadratic in them."""
MAIL_HEADER_CHARACTERS = 8192
"""Characters of a mail's header about its content (Content-Type and such). Python's parser is quadratic in them. Real
headers have two hundred."""
MAIL_PARTS = 200
"""Parts of a mail. Real mails have ten."""
MAIL_DEPTH = 50
"""Levels of nested parts in a mail: every line is compared with the end of each open part. A forwarded message has two
or three levels more than the mail around it."""

# Requests
MOST_UNDER_WAY = 64
"""Requests that are answered or wait at a time; further ones must try again later (`--limit-concurrency`)."""
ANSWER_SECONDS = 120.0
"""Seconds after which a request fails (`--timeout`)."""
MOST_BODY_BYTES = 3 * REQUEST_DOCUMENT_BYTES // 2
"""Bytes of a request: a document in base64, which takes a third more, and the JSON around it."""
BODY_SECONDS = 30.0
"""Seconds in which a client must send a body."""
JSON_DEPTH = 100
"""Levels of nesting in JSON. Real rows and requests have ten; later stages fail somewhere above two hundred."""
JSON_PARTS = 500_000
"""Commas and opening brackets in a request, including those in strings. A megabyte of prose has twenty thousand.
Reading the limit takes a tenth of a second, in which no other request is answered."""
SIGN_IN_TRIES = 10
"""Sign-ins per address and minute at the review app."""

# Connections and bodies
MOST_CONNECTIONS = 2048
"""Connections of a server at a time. Each takes some tens of kilobytes, and a server that answers 64 requests at a time
has no use for more."""
RESERVED_DESCRIPTORS = 128
"""File descriptors reserved for a server's model, request log, database and outgoing calls, which connections may not
take."""
REQUEST_SECONDS = 10.0
"""Seconds in which a connection must send a request's head, counted from its start or the head's first byte. Honest
clients send it at once; a mobile phone that loses packets takes a few seconds."""
KEEP_ALIVE_SECONDS = 75
"""Seconds for which a connection is kept between requests. Longer than clients and proxies keep theirs (httpx, so
OpenAI's client, 5 s, aiohttp 15 s, nginx 60 s): the side that closes first loses no request that is on its way."""
STALLED_SECONDS = 30.0
"""Seconds in which a client must accept `STALLED_BYTES` of its answer."""
STALLED_BYTES = 16 << 10
"""Bytes by which a waiting answer must shrink in `STALLED_SECONDS`: 550 bytes a second, which a modem manages."""
HEAD_BYTES = 16 << 10
"""Bytes of a request's line and headers. Tokens of identity providers have up to some 8 KiB."""
SMALL_BODY_BYTES = 64 << 10
"""Bytes of a body that does not count towards `BODY_BYTES_AT_ONCE`, so that large bodies never block plain questions.
Unauthenticated clients may send as much to the review app."""
BODY_BYTES_AT_ONCE = 256 << 20
"""Bytes of bodies that a server holds at a time, of requests that arrive and of requests in progress. The limit fits
ten of the largest requests; the text and JSON of a body take a few times as much."""
FORM_BYTES_AT_ONCE = 64 << 20
"""The same for the review app, whose largest form has 4 MiB."""
GATEWAY_BODY_BYTES = 32 << 20
"""Bytes of a request that the gateway reads before it passes it on. Larger ones pass unread, piece by piece."""
GATEWAY_BODY_RATE = 16 << 10
"""Bytes a second that a client of the gateway must send on average after `BODY_SECONDS`. Files may have any size."""
JOB_LETTERS = 1 << 18
"""Letters of a request in which the gateway looks for a job; the API answers longer ones. They are 130 pages, more than
most own models read, and looking takes 0.2 seconds and 30 MB."""
JOB_MESSAGES = 500
"""Messages of such a request. A conversation of a job has some tens."""
READERS_PER_PLACE = 4
"""Bodies that may arrive at a time, for each request that is answered at a time."""
FORM_READERS = 64
"""Forms that may arrive at a time at the review app."""
LOGGED_SECONDS = 1.0
"""Seconds between two log lines of one kind, for logs that clients can make grow."""

# Tokenizers of models from elsewhere
PROBE_TEXT = 100_000
"""Characters of each text on which an unusual tokenizer is tried. A pattern with quadratic time takes minutes for as
many, a usual one milliseconds."""
PROBE_CPU_SECONDS = 30
"""Seconds of processor time for such a try. A tokenizer with 250 thousand pieces takes two."""
PROBE_SECONDS = 120
"""The same on the wall clock, for busy machines."""
PROBE_MEMORY = 4 << 30
"""Bytes of address space for such a try. A tokenizer with 250 thousand pieces touches 0.7 GB."""
TOKENIZER_GROWTH = 4
"""Characters by which a tokenizer may replace one character. SentencePiece's own replaces one by one, GPT-4's replaces
none."""
TOKENIZER_LONGEST_WORD = 1000
"""Characters of a word that WordPiece cuts, in a number of steps that grows with the cube. BERT's own limit is 100."""
TOKENIZER_LONGEST_PIECE = 256
"""Characters of a token that Unigram tries at each position of a text. SentencePiece's own limit is 16."""
TOKENIZER_LARGEST_NUMBER = 1 << 24
"""The largest token id. The largest known vocabularies have a quarter of a million."""

# Batches
BATCH_LINE_BYTES = 24 << 20
"""Bytes in a line of a batch. A line may hold a document of 16 MiB, which has 22 MiB in base64."""
BATCH_CHUNK_BYTES = 64 << 20
"""Bytes of lines that a batch worker holds at once. A longer line is held alone."""

# Specs and the schemas in them
SPEC_BYTES = 512 << 10
"""Bytes in a spec, and letters in it with its anchors resolved. 5,000 labels with a line each have as many."""
SPEC_DEPTH = 64
"""Levels of nesting in a spec. One with a record's schema has twenty."""
SPEC_NODES = 100_000
"""Values and keys in a spec with its anchors resolved. Most of them are labels."""
SPEC_DIGITS = 100
"""Characters in a number of a spec."""
SPEC_FAULTS = 10
"""Faults of a spec that an error lists."""
SCHEMA_BYTES = 256 << 10
"""Bytes in a record's schema. A saved spec contains it."""
SCHEMA_NODES = 5_000
"""Schemas in a record's schema with its references resolved. A field is one or two."""
LITERAL_PIECES = 50_000
"""Words and signs of a request to which literal fields are confined. llguidance takes about twice as many."""
SCHEMA_PATTERNS = 100
"""Regular expressions in a schema. Each may take PATTERN_MEMORY."""
PATTERN_LENGTH = 2_000
"""Characters in a user's regular expression."""
PATTERN_MEMORY = 16 << 20
"""Bytes that RE2 may take for one expression: enough for 200 letters of any script in a row."""
RECORD_BYTES = 1 << 20
"""Characters in an answer that is a record. No model this small writes so much."""
RECORD_CHECKS = 200_000
"""Keywords of a schema that are checked for one record. A record of 2,000 lines with ten fields takes 80,000."""
COMBINING_MARKS = 30
"""Combining marks in a row, after which a grapheme joiner is inserted (the Stream-Safe Text Format of UAX #15).
Normalising a run takes quadratic time."""

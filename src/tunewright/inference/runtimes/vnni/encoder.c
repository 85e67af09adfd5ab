/* The forward pass of an encoder of BERT's or RoBERTa's kind on processors with AVX-512 VNNI: matrices in int8, all else
   in float32.

   A pass runs the packed tokens of many texts of any lengths, without padding, in one thread; threads run passes beside
   each other. A pass has steps, and a step has parts that are independent. The pass's own thread runs them; threads that
   have nothing to do may come and take some. "Row" is a token of the pass. */

#include <math.h>
#include <sched.h>
#include <stdatomic.h>

#include "kernels.h"

enum {
    QUERIES = 6,    /* rows of attention at once, times KEYS registers: 24 sums */
    KEYS = 4,       /* registers of tokens, or of numbers of a head, at once */
    MOST_WIDTH = 256, /* of a head */
    FEW = 64,       /* rows behind attention at once, so that what lies between the matrices stays in the cache */
};

enum { MEAN, FIRST, TOKENS }; /* what the head reads: the texts' mean vectors, their first tokens, or all tokens */

typedef struct {
    Matrix qkv, out, up, down;
    const float *norm[2], *shift[2]; /* after attention, and after the wide matrices: [hidden] */
} Layer;

typedef struct {
    int layers, hidden, heads, width, inner, labels, group, reads;
    int padding; /* the token that positions count from, and which has that position; -1: they count from 0 */
    float epsilon, scale; /* of norms; of attention */
} Shape;

typedef struct {
    Shape shape;
    Arena levels, vectors;
    Layer *layer;
    Matrix head;
    const int8_t *words;      /* [vocabulary, hidden] */
    const float *word_scale;  /* [vocabulary] */
    const float *places;      /* [positions, hidden]: what is added for a token's position */
    const float *norm, *shift; /* of the embeddings: [hidden] */
    atomic_int wanted; /* passes that wait for buffers, which helpers hold */
} Model;

void encoder_free(Model *model) {
    give_back(&model->levels), give_back(&model->vectors);
    free(model->layer);
    free(model);
}

/* The pointers stay the caller's. Returns NULL if there is no memory. */
Model *encoder_new(const Shape *shape, const int8_t *words, const float *word_scale, const float *places,
                   const float *norm, const float *shift) {
    Model *m = calloc(1, sizeof *m);
    if (!m || !(m->layer = calloc(shape->layers, sizeof(Layer)))) {
        free(m);
        return NULL;
    }
    m->shape = *shape;
    m->words = words, m->word_scale = word_scale, m->places = places, m->norm = norm, m->shift = shift;
    const int attended = shape->heads * shape->width;
    for (int l = 0; l < shape->layers; l++) {
        shape_matrix(&m->levels, &m->vectors, &m->layer[l].qkv, 3 * attended, shape->hidden);
        shape_matrix(&m->levels, &m->vectors, &m->layer[l].out, shape->hidden, attended);
        shape_matrix(&m->levels, &m->vectors, &m->layer[l].up, shape->inner, shape->hidden);
        shape_matrix(&m->levels, &m->vectors, &m->layer[l].down, shape->hidden, shape->inner);
    }
    shape_matrix(&m->levels, &m->vectors, &m->head, shape->labels, shape->hidden);
    if (m->levels.failed || m->vectors.failed) {
        encoder_free(m);
        return NULL;
    }
    return m;
}

void encoder_layer(Model *model, int layer, const float *norm, const float *shift, const float *last_norm,
                   const float *last_shift) {
    Layer *l = model->layer + layer;
    l->norm[0] = norm, l->shift[0] = shift, l->norm[1] = last_norm, l->shift[1] = last_shift;
}

/* As `pack_matrix`. kind: 0 queries, keys and values, 1 out, 2 up, 3 down, 4 the head. */
void encoder_pack(Model *model, int layer, int kind, int at, int outputs, const uint8_t *levels, const float *scale,
                  const uint8_t *zero, const float *bias) {
    Layer *l = model->layer + layer;
    pack_matrix((Matrix *[]){&l->qkv, &l->out, &l->up, &l->down, &model->head}[kind], at, outputs, levels, scale, zero,
                bias);
}

/* ---- the buffers of a pass ---- */

typedef struct Buffers Buffers;
/* A part of a step of `pass`. own: what its thread alone writes. */
typedef void Step(const Model *model, Buffers *pass, Buffers *own, int part);

struct Buffers {
    Arena arena;
    float *stream, *qkv, *attended, *pooled;
    Rows narrow, mixed; /* what the matrices read: the stream, attention's results */

    float *keys;   /* [width][tokens]: of one head, a row for each number */
    float *shares; /* [QUERIES][tokens] */
    float *wide;   /* of FEW rows, between the two wide matrices */
    Rows inner;
    long stride; /* from a row's scores, or a number's keys, to the next one's */

    int texts, tokens, blocks; /* blocks: parts of the rows behind attention */
    const int32_t *begins;
    const Layer *layer;
    Step *step;
    _Atomic uint64_t claim; /* the number of the step, its parts, the next part: 32, 16 and 16 bits; 0: no pass */
    atomic_int done;        /* parts of the step */
};

void buffers_free(Buffers *b) {
    give_back(&b->arena);
    free(b);
}

/* most: tokens of a pass. longest: tokens of a text. Returns NULL if there is no memory. */
Buffers *buffers_new(const Model *model, int most, int longest) {
    const Shape *s = &model->shape;
    Buffers *b = calloc(1, sizeof *b);
    if (!b) return NULL;
    Arena *a = &b->arena;
    const int attended = s->heads * s->width;
    const size_t floats = sizeof(float) * most;
    b->stride = (longest + LANES - 1) / LANES * LANES + LANES; /* no power of two: rows would share lines */
    b->stream = take(a, floats * s->hidden), b->qkv = take(a, floats * 3 * attended);
    b->attended = take(a, floats * attended), b->wide = take(a, sizeof(float) * FEW * s->inner);
    b->pooled = take(a, sizeof(float) * s->hidden);
    b->keys = take(a, sizeof(float) * s->width * b->stride), b->shares = take(a, sizeof(float) * QUERIES * b->stride);
    shape_rows(a, &b->narrow, most, s->hidden, s->group);
    shape_rows(a, &b->mixed, most, attended, s->group);
    shape_rows(a, &b->inner, FEW, s->inner, s->group);
    if (!a->failed) return b;
    buffers_free(b);
    return NULL;
}

/* ---- single rows ---- */

/* Layer normalisation in place. */
static void normalise(float *v, const float *weight, const float *shift, int count, float epsilon) {
    __m512 sum = _mm512_setzero_ps(), squares = _mm512_setzero_ps();
    for (int k = 0; k < count; k += LANES) sum = _mm512_add_ps(sum, _mm512_loadu_ps(v + k));
    const __m512 mean = _mm512_set1_ps(_mm512_reduce_add_ps(sum) / count);
    for (int k = 0; k < count; k += LANES) {
        const __m512 off = _mm512_sub_ps(_mm512_loadu_ps(v + k), mean);
        squares = _mm512_fmadd_ps(off, off, squares);
    }
    const __m512 by = _mm512_set1_ps(1 / sqrtf(_mm512_reduce_add_ps(squares) / count + epsilon));
    for (int k = 0; k < count; k += LANES) {
        const __m512 off = _mm512_mul_ps(_mm512_sub_ps(_mm512_loadu_ps(v + k), mean), by);
        _mm512_storeu_ps(v + k, _mm512_fmadd_ps(off, _mm512_loadu_ps(weight + k), _mm512_loadu_ps(shift + k)));
    }
}

/* x times the share of a normal distribution below x, in place. The error function is formula 7.1.26 of Abramowitz and
   Stegun (1964), which errs by 1.5e-7 at most. */
static void gelu(float *v, int count) {
    static const float SERIES[] = {0.254829592f, -0.284496736f, 1.421413741f, -1.453152027f, 1.061405429f};
    const __m512 one = _mm512_set1_ps(1), root = _mm512_set1_ps(0.70710678f), sign = _mm512_set1_ps(-0.0f);
    for (int k = 0; k < count; k += LANES) {
        const __m512 x = _mm512_loadu_ps(v + k), z = _mm512_mul_ps(_mm512_andnot_ps(sign, x), root);
        const __m512 t = _mm512_div_ps(one, _mm512_fmadd_ps(z, _mm512_set1_ps(0.3275911f), one));
        __m512 tail = _mm512_set1_ps(SERIES[4] / 2);
        UNROLLED (int i = 3; i >= 0; i--) tail = _mm512_fmadd_ps(tail, t, _mm512_set1_ps(SERIES[i] / 2));
        const __m512 power = _mm512_mul_ps(_mm512_mul_ps(z, z), _mm512_set1_ps(-LOG2_E));
        tail = _mm512_mul_ps(_mm512_mul_ps(tail, t), power_of_two(power, POWER_5, 5, 1));
        const __mmask16 above = _mm512_cmp_ps_mask(x, _mm512_setzero_ps(), _CMP_GE_OQ);
        _mm512_storeu_ps(v + k, _mm512_mul_ps(x, _mm512_mask_sub_ps(tail, above, one, tail)));
    }
}

/* ---- attention ---- */

/* Scores of some rows with `columns` x 16 tokens. query: [rows], `query_stride` numbers apart. */
INLINE void score(const int rows, const int columns, const float *query, long query_stride, const float *keys, long stride,
                  int width, float *out) {
    __m512 sum[QUERIES][KEYS];
    UNROLLED (int r = 0; r < rows; r++)
        UNROLLED (int c = 0; c < columns; c++) sum[r][c] = _mm512_setzero_ps();
    for (int d = 0; d < width; d++) {
        __m512 key[KEYS];
        UNROLLED (int c = 0; c < columns; c++) key[c] = _mm512_loadu_ps(keys + d * stride + c * LANES);
        UNROLLED (int r = 0; r < rows; r++) {
            const __m512 one = _mm512_set1_ps(query[r * query_stride + d]);
            UNROLLED (int c = 0; c < columns; c++) sum[r][c] = _mm512_fmadd_ps(one, key[c], sum[r][c]);
        }
    }
    UNROLLED (int r = 0; r < rows; r++)
        UNROLLED (int c = 0; c < columns; c++) _mm512_storeu_ps(out + r * stride + c * LANES, sum[r][c]);
}

/* The values of `count` tokens, each times its share, in `columns` x 16 numbers of a head. */
INLINE void mix(const int rows, const int columns, const float *shares, long stride, const float *values, long value_stride,
                int count, const float *by, float *out, long out_stride) {
    __m512 sum[QUERIES][KEYS];
    UNROLLED (int r = 0; r < rows; r++)
        UNROLLED (int c = 0; c < columns; c++) sum[r][c] = _mm512_setzero_ps();
    for (int t = 0; t < count; t++) {
        __m512 value[KEYS];
        UNROLLED (int c = 0; c < columns; c++) value[c] = _mm512_loadu_ps(values + t * value_stride + c * LANES);
        UNROLLED (int r = 0; r < rows; r++) {
            const __m512 one = _mm512_set1_ps(shares[r * stride + t]);
            UNROLLED (int c = 0; c < columns; c++) sum[r][c] = _mm512_fmadd_ps(one, value[c], sum[r][c]);
        }
    }
    UNROLLED (int r = 0; r < rows; r++)
        UNROLLED (int c = 0; c < columns; c++)
            _mm512_storeu_ps(out + r * out_stride + c * LANES, _mm512_mul_ps(sum[r][c], _mm512_set1_ps(by[r])));
}

/* Softmax in place, without its division. Returns what the shares are to be multiplied by. */
static float softmax(float *scores, int count, float scale) {
    const __m512 least = _mm512_set1_ps(-INFINITY);
    __m512 most = least, sum = _mm512_setzero_ps();
    for (int t = 0; t < count; t += LANES) {
        const __mmask16 lanes = lanes_below(count - t);
        most = _mm512_max_ps(most, _mm512_mask_loadu_ps(least, lanes, scores + t));
    }
    const __m512 top = _mm512_set1_ps(_mm512_reduce_max_ps(most)), by = _mm512_set1_ps(scale);
    for (int t = 0; t < count; t += LANES) {
        const __mmask16 lanes = lanes_below(count - t);
        const __m512 x = _mm512_mul_ps(_mm512_sub_ps(_mm512_loadu_ps(scores + t), top), by);
        const __m512 share = _mm512_maskz_mov_ps(lanes, power_of_two(x, POWER_5, 5, 1));
        sum = _mm512_add_ps(sum, share);
        _mm512_storeu_ps(scores + t, share);
    }
    return 1 / _mm512_reduce_add_ps(sum);
}

#define COLUMNS(RUN, COUNT, ROWS_)                                                                                     \
    switch (COUNT) {                                                                                                   \
        case 1: RUN(ROWS_, 1); break;                                                                                  \
        case 2: RUN(ROWS_, 2); break;                                                                                  \
        case 3: RUN(ROWS_, 3); break;                                                                                  \
        default: RUN(ROWS_, 4);                                                                                        \
    }

/* Some rows of a text in one head. */
INLINE void attend(const int rows, const Shape *s, Buffers *pass, Buffers *own, int first, int count, int head,
                   int row) {
    const int attended = s->heads * s->width, width = s->width;
    const long wide = 3L * attended;
    const float *query = pass->qkv + (first + row) * wide + head * width;
    const float *values = pass->qkv + first * wide + 2 * attended + head * width;
    float *to = pass->attended + (long)(first + row) * attended + head * width, by[QUERIES];
    for (int t = 0; t < count; t += KEYS * LANES) {
        const int columns = (count - t + LANES - 1) / LANES;
#define SCORE(R, C) score(R, C, query, wide, own->keys + t, own->stride, width, own->shares + t)
        COLUMNS(SCORE, columns, rows)
    }
    for (int r = 0; r < rows; r++) by[r] = softmax(own->shares + r * own->stride, count, s->scale * LOG2_E);
    for (int d = 0; d < width; d += KEYS * LANES) {
        const int columns = (width - d) / LANES;
#define MIX(R, C) mix(R, C, own->shares, own->stride, values + d, wide, count, by, to + d, attended)
        COLUMNS(MIX, columns, rows)
    }
}

#define ATTEND(COUNT)                                                                                                  \
    case COUNT: attend(COUNT, s, pass, own, first, count, head, row); break;

/* Attention of the `count` tokens of a text from `first` on, each to all, in one head. */
static void attention(const Shape *s, Buffers *pass, Buffers *own, int first, int count, int head) {
    const int attended = s->heads * s->width, parts = (count + QUERIES - 1) / QUERIES;
    const float *keys = pass->qkv + (long)first * 3 * attended + attended + head * s->width;
    for (int t = 0; t < count; t++)
        for (int d = 0; d < s->width; d++) own->keys[d * own->stride + t] = keys[(long)t * 3 * attended + d];
    for (int p = 0; p < parts; p++) {
        const int row = (long)count * p / parts;
        switch ((int)((long)count * (p + 1) / parts) - row) {
            ATTEND(1) ATTEND(2) ATTEND(3) ATTEND(4) ATTEND(5) ATTEND(6)
        }
    }
}

/* ---- the pass ---- */

static void product(const Matrix *m, const Rows *x, int rows, float *out, int add) {
    for (int p = 0; p * PANEL < m->outputs; p++) panel(m, p, 1, x, rows, out, add);
}

/* The rows from `first` on. */
static Rows rows_from(const Rows *x, int first) {
    const int groups = x->inputs / x->group;
    return (Rows){x->levels + (long)first * x->inputs, x->scale + (long)first * groups, x->sum + first, x->inputs, x->group};
}

/* Normalises rows of the stream, and quantises them for the matrix that reads them next. */
static void read_stream(const Shape *s, Buffers *b, int from, int to, const float *norm, const float *shift) {
    for (int t = from; t < to; t++) {
        float *row = b->stream + (long)t * s->hidden;
        normalise(row, norm, shift, s->hidden, s->epsilon);
        quantise(row, &b->narrow, t);
    }
}

static void embed(const Model *m, Buffers *b, int token, int64_t id, int position) {
    const int hidden = m->shape.hidden;
    const int8_t *word = m->words + id * hidden;
    const float *place = m->places + (long)position * hidden;
    const __m512 scale = _mm512_set1_ps(m->word_scale[id]);
    float *to = b->stream + (long)token * hidden;
    for (int k = 0; k < hidden; k += LANES) {
        const __m512 level = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)(word + k))));
        _mm512_storeu_ps(to + k, _mm512_fmadd_ps(level, scale, _mm512_loadu_ps(place + k)));
    }
}

/* The vector of a text, of length one. */
static void pool(const Shape *s, Buffers *b, int first, int count) {
    float *to = b->pooled;
    memcpy(to, b->stream + (long)first * s->hidden, sizeof(float) * s->hidden);
    if (s->reads == MEAN) /* a sum: only the direction counts */
        for (int t = 1; t < count; t++)
            for (int k = 0; k < s->hidden; k++) to[k] += b->stream[(long)(first + t) * s->hidden + k];
    __m512 squares = _mm512_setzero_ps();
    for (int k = 0; k < s->hidden; k += LANES) {
        const __m512 v = _mm512_loadu_ps(to + k);
        squares = _mm512_fmadd_ps(v, v, squares);
    }
    const float by = 1 / fmaxf(sqrtf(_mm512_reduce_add_ps(squares)), 1e-12f);
    for (int k = 0; k < s->hidden; k++) to[k] *= by;
}

/* ---- steps, and their parts ---- */

enum { PART_BITS = 16, STEP_BITS = 32, LAST_PART = (1 << PART_BITS) - 1 };

/* Runs the parts that nobody has taken; returns how many. */
static int run_parts(const Model *m, Buffers *pass, Buffers *own) {
    uint64_t claim = atomic_load(&pass->claim);
    int taken = 0;
    while ((claim & LAST_PART) < (claim >> PART_BITS & LAST_PART)) {
        if (!atomic_compare_exchange_weak(&pass->claim, &claim, claim + 1)) continue;
        pass->step(m, pass, own, claim & LAST_PART);
        atomic_fetch_add(&pass->done, 1);
        taken++;
        claim = atomic_load(&pass->claim);
    }
    return taken;
}

static void look_again(int *looks) {
    if ((*looks)++ < SPINS) _mm_pause();
    else sched_yield();
}

/* Runs a step. What it reads of `pass` does not change until all its parts are done. */
static void run_step(const Model *m, Buffers *pass, Step *step, int parts) {
    const uint64_t number = (atomic_load(&pass->claim) >> STEP_BITS) + 1;
    pass->step = step;
    atomic_store(&pass->done, 0);
    atomic_store(&pass->claim, number << STEP_BITS | (uint64_t)parts << PART_BITS);
    run_parts(m, pass, pass);
    for (int looks = 0; atomic_load(&pass->done) < parts;) look_again(&looks);
}

/* Helpers may come to a pass, or leave it, as there is no more to do. */
void encoder_begin(Buffers *pass) { atomic_store(&pass->claim, 1ull << STEP_BITS); }
void encoder_end(Buffers *pass) { atomic_store(&pass->claim, 0); }

/* A pass waits for buffers, or no longer does: helpers give theirs back soon. */
void encoder_wanted(Model *model, int more) { atomic_fetch_add(&model->wanted, more); }

/* Helps with a pass of another thread until it ends, or until a pass waits for buffers. own: buffers without a pass. */
void encoder_help(const Model *m, Buffers *pass, Buffers *own) {
    for (int looks = 0; atomic_load(&pass->claim) && !atomic_load(&m->wanted);)
        if (run_parts(m, pass, own)) looks = 0;
        else look_again(&looks);
}

/* A panel of queries, keys and values. */
static void step_qkv(const Model *m, Buffers *pass, Buffers *own, int part) {
    (void)m, (void)own; /* other steps need them */
    panel(&pass->layer->qkv, part, 1, &pass->narrow, pass->tokens, pass->qkv, 0);
}

/* A head of all texts. */
static void step_attention(const Model *m, Buffers *pass, Buffers *own, int part) {
    for (int i = 0; i < pass->texts; i++)
        attention(&m->shape, pass, own, pass->begins[i], pass->begins[i + 1] - pass->begins[i], part);
}

/* What is behind attention, of some rows. */
static void step_rows(const Model *m, Buffers *pass, Buffers *own, int part) {
    const Shape *s = &m->shape;
    const Layer *layer = pass->layer;
    const int from = (long)pass->tokens * part / pass->blocks, to = (long)pass->tokens * (part + 1) / pass->blocks;
    const int rows = to - from, attended = s->heads * s->width;
    float *stream = pass->stream + (long)from * s->hidden;
    for (int t = from; t < to; t++) quantise(pass->attended + (long)t * attended, &pass->mixed, t);
    const Rows mixed = rows_from(&pass->mixed, from), narrow = rows_from(&pass->narrow, from);
    product(&layer->out, &mixed, rows, stream, 1);
    read_stream(s, pass, from, to, layer->norm[0], layer->shift[0]);
    product(&layer->up, &narrow, rows, own->wide, 0);
    for (int t = 0; t < rows; t++) {
        gelu(own->wide + (long)t * s->inner, s->inner);
        quantise(own->wide + (long)t * s->inner, &own->inner, t);
    }
    product(&layer->down, &own->inner, rows, stream, 1);
    read_stream(s, pass, from, to, layer->norm[1], layer->shift[1]);
}

/* Runs a pass. `ids` must be in the vocabulary, texts in the buffers' and the positions' limits.
   begins: [texts + 1], the first token of each text. out: [texts or tokens, labels rounded up to whole registers].
   threads: how many are likely to work on it. */
void encoder_forward(const Model *m, Buffers *b, int texts, const int64_t *ids, const int32_t *begins, float *out,
                     int threads) {
    const Shape *s = &m->shape;
    const int tokens = begins[texts], least = (tokens + FEW - 1) / FEW;
    const int even = (least + threads - 1) / threads * threads;
    b->texts = texts, b->tokens = tokens, b->begins = begins;
    b->blocks = even < tokens ? even : tokens;
    for (int i = 0; i < texts; i++)
        for (int t = begins[i], position = s->padding; t < begins[i + 1]; t++)
            embed(m, b, t, ids[t], s->padding >= 0 && ids[t] == s->padding ? s->padding : ++position);
    read_stream(s, b, 0, tokens, m->norm, m->shift);
    for (int number = 0; number < s->layers; number++) {
        b->layer = m->layer + number;
        run_step(m, b, step_qkv, (b->layer->qkv.outputs + PANEL - 1) / PANEL);
        run_step(m, b, step_attention, s->heads);
        run_step(m, b, step_rows, b->blocks);
    }
    if (s->reads != TOKENS)
        for (int i = 0; i < texts; i++) {
            pool(s, b, begins[i], begins[i + 1] - begins[i]);
            quantise(b->pooled, &b->narrow, i);
        }
    product(&m->head, &b->narrow, s->reads == TOKENS ? tokens : texts, out, 0);
}

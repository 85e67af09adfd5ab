/* The forward pass of a decoder on processors with AVX-512 VNNI: matrices in int8, attention in 16-bit integers.

   Weights are those of `tunewright.exporters.openvino`; `kernels.h` says how rows meet them. Queries, keys, values and
   the shares of tokens are whole numbers of 12 or 13 bits, finer than bfloat16's 8; sums are exact and become float32
   block by block.

   Units: a pass runs the packed tokens of many sequences. Keys and values are in blocks of TOKENS tokens. "Row" is a
   token of the pass, or in attention a token and one of the heads that share a key head. */

#include <math.h>
#include <pthread.h>
#include <stdatomic.h>

#include "kernels.h"

enum {
    QUERIES = 6,   /* rows of attention at once, times 4 registers */
    TOKENS = 64,   /* of a block of keys and values */
    MOST_WIDTH = 128, /* of a head: wider ones could overflow 32 bits */
};

/* Largest whole numbers. 128 products of two of TOP_QK, or 64 of TOP_VALUE and TOP_SHARE, stay below 2^31. */
static const float TOP_QK = 4095, TOP_VALUE = 2047, TOP_SHARE = 8191;
static const float LEAST_SCALE = 5.4210109e-20f; /* of a value: 2 to the power -64, so that nothing overflows */

/* ---- the model ---- */

typedef struct {
    Matrix qkv, out, up, down; /* up: gate and up */
    const float *before, *after, *query_norm, *key_norm; /* norms' weights; the last two may be NULL */
    int window; /* tokens that a token sees, itself included; 0: all */
} Layer;

typedef struct {
    int layers, hidden, heads, key_heads, width, inner, vocabulary, group;
    float epsilon, scale, rotary_scale;
} Shape;

typedef struct {
    Shape shape;
    Arena levels, vectors;
    Layer *layer;
    Matrix head;
    const uint8_t *embedding, *embedding_zero; /* [vocabulary, hidden]; [vocabulary] */
    const float *embedding_scale, *norm, *frequencies;
} Model;

void model_free(Model *model) {
    give_back(&model->levels), give_back(&model->vectors);
    free(model->layer);
    free(model);
}

/* The pointers stay the caller's. Returns NULL if there is no memory. */
Model *model_new(const Shape *shape, const float *frequencies, const float *norm, const uint8_t *embedding,
                 const float *embedding_scale, const uint8_t *embedding_zero) {
    Model *m = calloc(1, sizeof *m);
    if (!m || !(m->layer = calloc(shape->layers, sizeof(Layer)))) {
        free(m);
        return NULL;
    }
    m->shape = *shape;
    m->frequencies = frequencies, m->norm = norm;
    m->embedding = embedding, m->embedding_scale = embedding_scale, m->embedding_zero = embedding_zero;
    const int attended = shape->heads * shape->width, keys = shape->key_heads * shape->width;
    for (int l = 0; l < shape->layers; l++) {
        shape_matrix(&m->levels, &m->vectors, &m->layer[l].qkv, attended + 2 * keys, shape->hidden);
        shape_matrix(&m->levels, &m->vectors, &m->layer[l].out, shape->hidden, attended);
        shape_matrix(&m->levels, &m->vectors, &m->layer[l].up, 2 * shape->inner, shape->hidden);
        shape_matrix(&m->levels, &m->vectors, &m->layer[l].down, shape->hidden, shape->inner);
    }
    shape_matrix(&m->levels, &m->vectors, &m->head, shape->vocabulary, shape->hidden);
    if (m->levels.failed || m->vectors.failed) {
        model_free(m);
        return NULL;
    }
    return m;
}

void model_layer(Model *model, int layer, int window, const float *before, const float *after,
                 const float *query_norm, const float *key_norm) {
    Layer *l = model->layer + layer;
    l->window = window, l->before = before, l->after = after, l->query_norm = query_norm, l->key_norm = key_norm;
}

/* Rows of a matrix, as `pack_matrix` takes them. */
typedef struct {
    int layer, kind; /* 0 qkv, 1 out, 2 gate and up, 3 down, 4 the head */
    int at, outputs;
    const uint8_t *levels;
    const float *scale;
    const uint8_t *zero;
    const float *bias;
} MatrixPiece;

/* Copies the pieces from `next` on. Threads that share it share the work: each takes the next one that is left. */
void model_pack(Model *model, const MatrixPiece *pieces, int count, int *next) {
    for (int p; (p = __atomic_fetch_add(next, 1, __ATOMIC_RELAXED)) < count;) {
        const MatrixPiece *piece = pieces + p;
        Layer *l = model->layer + piece->layer;
        Matrix *m = (Matrix *[]){&l->qkv, &l->out, &l->up, &l->down, &model->head}[piece->kind];
        pack_matrix(m, piece->at, piece->outputs, piece->levels, piece->scale, piece->zero, piece->bias);
    }
}

/* ---- single rows ---- */

/* Whole numbers up to `top` in place of v. Returns their scale. */
static float quantise_words(const float *v, int count, float top, int16_t *to) {
    const float most = _mm512_reduce_max_ps(most_of(v, count));
    const __m512 by = _mm512_set1_ps(most > 0 ? top / most : 0);
    for (int k = 0; k < count; k += LANES) {
        const __m512i level = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_loadu_ps(v + k), by));
        _mm256_storeu_si256((__m256i *)(to + k), _mm512_cvtsepi32_epi16(level));
    }
    return most / top;
}

/* Root mean square normalisation; `to` may be `from`. */
static void normalise(const float *from, const float *weight, float *to, int count, float epsilon) {
    __m512 sum = _mm512_setzero_ps();
    for (int k = 0; k < count; k += LANES) {
        const __m512 v = _mm512_loadu_ps(from + k);
        sum = _mm512_fmadd_ps(v, v, sum);
    }
    const __m512 by = _mm512_set1_ps(1 / sqrtf(_mm512_reduce_add_ps(sum) / count + epsilon));
    for (int k = 0; k < count; k += LANES) {
        const __m512 v = _mm512_mul_ps(_mm512_loadu_ps(from + k), by);
        _mm512_storeu_ps(to + k, _mm512_mul_ps(v, _mm512_loadu_ps(weight + k)));
    }
}

/* Rotary encoding in place, halves against each other. */
static void rotate(float *v, const float *cosine, const float *sine, int half) {
    for (int k = 0; k < half; k += LANES) {
        const __m512 a = _mm512_loadu_ps(v + k), b = _mm512_loadu_ps(v + half + k);
        const __m512 c = _mm512_loadu_ps(cosine + k), s = _mm512_loadu_ps(sine + k);
        _mm512_storeu_ps(v + k, _mm512_fnmadd_ps(b, s, _mm512_mul_ps(a, c)));
        _mm512_storeu_ps(v + half + k, _mm512_fmadd_ps(a, s, _mm512_mul_ps(b, c)));
    }
}

/* ---- adapters ---- */

enum { QUERY, KEY, VALUE, OUT, GATE, UP, DOWN, ADAPTED };

/* Two thin matrices beside one of a layer. */
typedef struct {
    const float *down, *up; /* [inputs, rank], [rank, outputs]; NULL: there are none */
} Thin;

typedef struct {
    int rank;            /* of all matrices, in whole registers */
    const Thin *matrices; /* [layers][ADAPTED] */
} Adapter;

/* Adds what a matrix's adapter makes of some rows, to outputs that are `stride` from row to row.
   x: [rows, inputs]. */
INLINE void adapt_rows(const int rows, const Thin *thin, int rank, const float *x, int inputs, int outputs, float *out,
                       long stride) {
    float inner[ROWS * LANES] __attribute__((aligned(64)));
    for (int j = 0; j < rank; j += LANES) {
        __m512 sum[ROWS];
        UNROLLED (int r = 0; r < rows; r++) sum[r] = _mm512_setzero_ps();
        for (int k = 0; k < inputs; k++) {
            const __m512 down = _mm512_loadu_ps(thin->down + (long)k * rank + j);
            UNROLLED (int r = 0; r < rows; r++)
                sum[r] = _mm512_fmadd_ps(_mm512_set1_ps(x[(long)r * inputs + k]), down, sum[r]);
        }
        UNROLLED (int r = 0; r < rows; r++) _mm512_store_ps(inner + r * LANES, sum[r]);
        for (int o = 0; o < outputs; o += LANES) {
            UNROLLED (int r = 0; r < rows; r++) sum[r] = _mm512_loadu_ps(out + r * stride + o);
            for (int k = 0; k < LANES; k++) {
                const __m512 up = _mm512_loadu_ps(thin->up + (long)(j + k) * outputs + o);
                UNROLLED (int r = 0; r < rows; r++)
                    sum[r] = _mm512_fmadd_ps(_mm512_set1_ps(inner[r * LANES + k]), up, sum[r]);
            }
            UNROLLED (int r = 0; r < rows; r++) _mm512_storeu_ps(out + r * stride + o, sum[r]);
        }
    }
}

/* ---- a network: memory for keys and values, buffers of a pass, threads ---- */

enum { MATRICES, ATTENTION, BETWEEN, WAITING, KINDS };

typedef struct {
    int tokens, sequences, wanted, panel_count;
    const int64_t *ids, *positions; /* [tokens] */
    const int32_t *past;            /* [sequences]: tokens in memory */
    const int32_t *begins;          /* [sequences + 1]: first token of each sequence */
    const int32_t *blocks;          /* of all sequences */
    const int32_t *block_begins;    /* [sequences + 1] */
    const int64_t *wanted_at;       /* [wanted]: tokens whose logits are wanted */
    const Adapter *const *adapters; /* [tokens], NULL where there is none; or NULL */
    const int32_t *panels;          /* [panel_count]: of the head, with the logits that are wanted; NULL: all */
    float *logits;                  /* [wanted, vocabulary rounded up to whole registers] */
} Pass;

typedef struct {
    Shape shape;
    const Model *model;
    Arena arena;
    Pass pass;
    int most; /* tokens of a pass */
    long score_stride, share_stride; /* from a row's scores or shares to the next one's */
    char *memory; /* of keys and values: [block][layer][key head], as `Place` says */

    float *stream, *last; /* [tokens, hidden]: the residual stream; of the tokens whose logits are wanted */
    float *qkv, *attended, *gates, *cosine, *sine;
    int16_t *query;     /* [key head][token][head of the key head][width] */
    float *query_scale; /* the same without the width */
    Rows narrow, mixed, inner; /* what the matrices read: the stream, attention's results, the gates' */
    struct {
        float *line, *scores, *lines; /* lines: the inputs of ROWS rows */
        int16_t *shares;
    } *scratch; /* of each thread */

    int threads;
    pthread_t *thread;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    atomic_int passes, arrived, phase, sleeping, stop, next; /* next: what the next free thread takes */
    unsigned long long since, spent[KINDS]; /* cycles of the first thread */
} Network;

/* Counts the first thread's time since the last call as spent on `kind`. */
static void count_time(Network *n, int thread, int kind) {
    if (thread) return;
    const unsigned long long now = __rdtsc();
    n->spent[kind] += now - n->since;
    n->since = now;
}

/* Waits until all threads are here. `kind` is what they did since the last time. */
static void meet(Network *n, int thread, int kind) {
    count_time(n, thread, kind);
    if (n->threads == 1) {
        atomic_store(&n->next, 0);
        return;
    }
    const int phase = atomic_load(&n->phase);
    if (atomic_fetch_add(&n->arrived, 1) == n->threads - 1) {
        atomic_store(&n->arrived, 0);
        atomic_store(&n->next, 0);
        atomic_store(&n->phase, phase + 1);
        if (atomic_load(&n->sleeping)) {
            pthread_mutex_lock(&n->lock);
            pthread_cond_broadcast(&n->wake);
            pthread_mutex_unlock(&n->lock);
        }
    } else {
        for (int i = 0; i < SPINS && atomic_load_explicit(&n->phase, memory_order_acquire) == phase; i++) _mm_pause();
        if (atomic_load(&n->phase) == phase) {
            pthread_mutex_lock(&n->lock);
            atomic_fetch_add(&n->sleeping, 1);
            while (atomic_load(&n->phase) == phase) pthread_cond_wait(&n->wake, &n->lock);
            atomic_fetch_sub(&n->sleeping, 1);
            pthread_mutex_unlock(&n->lock);
        }
    }
    count_time(n, thread, WAITING);
}

static int share_from(const Network *n, int thread, int count) { return (long)count * thread / n->threads; }

/* Threads take panels, and below blocks of queries, as they come: one that loses its core keeps only one from the
   others. */
static void product(Network *n, const Matrix *m, const Rows *x, int rows, float *out, int add) {
    const int panels = rows ? (m->outputs + PANEL - 1) / PANEL : 0;
    for (int p; (p = atomic_fetch_add(&n->next, 1)) < panels;) panel(m, p, n->threads, x, rows, out, add);
}

/* The same for some of the panels. */
static void product_of(Network *n, const Matrix *m, const int32_t *panels, int count, const Rows *x, int rows,
                       float *out) {
    const int end = rows ? count : 0;
    for (int p; (p = atomic_fetch_add(&n->next, 1)) < end;) {
        const int later = p + n->threads < end ? p + n->threads : p;
        panel(m, panels[p], panels[later] - panels[p], x, rows, out, 0);
    }
}

/* ---- attention ---- */

/* A block of memory in one layer and key head. A share is what softmax gives a token, times the scale of its value; so
   the largest share of a row is known before softmax, and shares are rounded as they are computed. */
typedef struct {
    int16_t *keys;     /* [TOKENS / 16][width / 2][16][2] */
    int16_t *values;   /* [TOKENS / 2][width][2]: of the tokens in the order of `share_at` */
    float *key_scale;  /* [TOKENS] */
    float *value_log;  /* [TOKENS]: the logarithm of a value's scale, to the base of 2 */
    float *value_unit; /* [TOKENS]: 1 / that scale */
} Place;

static size_t place_bytes(const Shape *s) {
    return TOKENS * (2 * s->width * sizeof(int16_t) + 3 * sizeof(float));
}

static size_t block_bytes(const Shape *s) { return place_bytes(s) * s->layers * s->key_heads; }

INLINE Place place_of(const Network *n, int layer, int head, int block) {
    const Shape *s = &n->shape;
    char *at = n->memory + block_bytes(s) * block + place_bytes(s) * (layer * s->key_heads + head);
    int16_t *keys = (int16_t *)at, *values = keys + TOKENS * s->width;
    float *scale = (float *)(values + TOKENS * s->width);
    return (Place){keys, values, scale, scale + TOKENS, scale + 2 * TOKENS};
}

/* Where a token's share is in its block: two registers of 32-bit numbers are packed to one of 16 in pieces of four. */
static int share_at(int token) {
    const int half = token / 32, high = token / 16 % 2, four = token / 4 % 4;
    return half * 32 + four * 8 + high * 4 + token % 4;
}

/* Encodes the queries of a token, and writes its keys and values into memory. */
static void remember(Network *n, int number, int sequence, int token) {
    const Shape *s = &n->shape;
    const Layer *layer = n->model->layer + number;
    const int width = s->width, half = width / 2, group = s->heads / s->key_heads;
    float *row = n->qkv + (long)token * (s->heads + 2 * s->key_heads) * width;
    const float *cosine = n->cosine + (long)token * half, *sine = n->sine + (long)token * half;
    for (int h = 0; h < s->heads; h++) {
        float *query = row + (long)h * width;
        const long at = ((long)(h / group) * n->most + token) * group + h % group;
        if (layer->query_norm) normalise(query, layer->query_norm, query, width, s->epsilon);
        rotate(query, cosine, sine, half);
        n->query_scale[at] = quantise_words(query, width, TOP_QK, n->query + at * width) * s->scale * LOG2_E;
    }
    const int position = n->pass.past[sequence] + token - n->pass.begins[sequence];
    const int block = n->pass.blocks[n->pass.block_begins[sequence] + position / TOKENS], place = position % TOKENS;
    const int share = share_at(place);
    int16_t whole[MOST_WIDTH];
    for (int h = 0; h < s->key_heads; h++) {
        float *key = row + (long)(s->heads + h) * width;
        const float *value = key + (long)s->key_heads * width;
        const Place at = place_of(n, number, h, block);
        if (layer->key_norm) normalise(key, layer->key_norm, key, width, s->epsilon);
        rotate(key, cosine, sine, half);
        at.key_scale[place] = quantise_words(key, width, TOP_QK, whole);
        int16_t *keys = at.keys + (long)(place / LANES) * width * LANES + place % LANES * 2;
        for (int d = 0; d < width; d += 2) memcpy(keys + (long)d * LANES, whole + d, 4);
        const float scale = fmaxf(quantise_words(value, width, TOP_VALUE, whole), LEAST_SCALE);
        at.value_log[place] = log2f(scale), at.value_unit[place] = 1 / scale;
        int16_t *values = at.values + (long)(share / 2) * width * 2 + share % 2;
        for (int d = 0; d < width; d++) values[2 * d] = whole[d];
    }
}

/* The tokens that a row sees: from `first` to before `end`, counted from the begin of the sequence or of a block. */
typedef struct {
    int first, end;
} Seen;

INLINE Seen in_block(Seen of_sequence, int block) {
    return (Seen){of_sequence.first - block * TOKENS, of_sequence.end - block * TOKENS};
}

INLINE int is_whole(Seen s) { return s.first <= 0 && s.end >= TOKENS; }

/* Of the 16 tokens from `at` on. */
INLINE __mmask16 lanes_of(Seen s, int at) { return lanes_below(s.end - at) & ~lanes_below(s.first - at); }

/* As `add_bytes`. */
INLINE void add_words(__m512i *sum, __m512i left, __m512i right) {
    __asm__("vpdpwssd %2, %1, %0" : "+v"(*sum) : "v"(left), "v"(right));
}

/* Scores of a block: queries times keys, plus the logarithms of the values' scales. The keys at `ahead` are fetched
   meanwhile.
   seen: what each row sees of the block; NULL: all rows see all.
   most: the largest score of each row so far. */
INLINE void score(const int rows, const Seen *seen, const int16_t *query, const float *query_scale, const Place *at,
                  int width, float *out, long stride, __m512 *most, const int16_t *ahead) {
    __m512i sum[QUERIES][4];
    UNROLLED (int r = 0; r < rows; r++)
        UNROLLED (int c = 0; c < 4; c++) sum[r][c] = _mm512_setzero_si512();
    for (int d = 0; d < width; d += 2) {
        __m512i key[4];
        UNROLLED (int c = 0; c < 4; c++) {
            const long from = ((long)c * width + d) * LANES;
            key[c] = _mm512_load_si512(at->keys + from);
            _mm_prefetch((const char *)(ahead + from), _MM_HINT_T0);
        }
        UNROLLED (int r = 0; r < rows; r++) {
            const __m512i two = repeated(query + (long)r * width + d);
            UNROLLED (int c = 0; c < 4; c++) add_words(&sum[r][c], key[c], two);
        }
    }
    UNROLLED (int c = 0; c < 4; c++) {
        const __m512 scale = _mm512_load_ps(at->key_scale + c * LANES);
        const __m512 log = _mm512_load_ps(at->value_log + c * LANES);
        UNROLLED (int r = 0; r < rows; r++) {
            const __m512 v = _mm512_mul_ps(_mm512_cvtepi32_ps(sum[r][c]), scale);
            const __m512 whole = _mm512_fmadd_ps(v, _mm512_set1_ps(query_scale[r]), log);
            _mm512_store_ps(out + r * stride + c * LANES, whole);
            const __mmask16 lanes = seen ? lanes_of(seen[r], c * LANES) : 0xffff;
            most[r] = _mm512_mask_max_ps(most[r], lanes, most[r], whole);
        }
    }
}

/* Adds the values of a block, each times its share, to `out` [rows, columns x 16]. Those at `ahead` are fetched
   meanwhile. */
INLINE void mix(const int rows, const int columns, const int16_t *shares, long stride, const int16_t *values, int width,
                float *out, const int16_t *ahead) {
    __m512i sum[QUERIES][4];
    UNROLLED (int r = 0; r < rows; r++)
        UNROLLED (int c = 0; c < columns; c++) sum[r][c] = _mm512_setzero_si512();
    for (int t = 0; t < TOKENS; t += 2) {
        __m512i value[4];
        UNROLLED (int c = 0; c < columns; c++) {
            const long at = (long)t * width + c * 2 * LANES;
            value[c] = _mm512_load_si512(values + at);
            _mm_prefetch((const char *)(ahead + at), _MM_HINT_T0);
        }
        UNROLLED (int r = 0; r < rows; r++) {
            const __m512i two = repeated(shares + r * stride + t);
            UNROLLED (int c = 0; c < columns; c++) add_words(&sum[r][c], value[c], two);
        }
    }
    UNROLLED (int r = 0; r < rows; r++)
        UNROLLED (int c = 0; c < columns; c++) {
            float *o = out + (r * columns + c) * LANES;
            _mm512_store_ps(o, _mm512_add_ps(_mm512_load_ps(o), _mm512_cvtepi32_ps(sum[r][c])));
        }
}

/* The shares of 32 tokens, of which the row sees some. `sum` adds up what softmax divides by. */
INLINE void share(const float *scores, const float *unit, const __mmask16 low, const __mmask16 high, __m512 top,
                  __m512 *sum, int16_t *shares) {
    __m512 power[2];
    const __mmask16 seen[] = {low, high};
    UNROLLED (int c = 0; c < 2; c++) {
        const __m512 x = _mm512_sub_ps(_mm512_load_ps(scores + c * LANES), top);
        power[c] = _mm512_maskz_mov_ps(seen[c], power_of_two(x, POWER_4, 4, TOP_SHARE));
        *sum = _mm512_fmadd_ps(power[c], _mm512_maskz_load_ps(seen[c], unit + c * LANES), *sum);
    }
    const __m512i whole = _mm512_packs_epi32(_mm512_cvtps_epi32(power[0]), _mm512_cvtps_epi32(power[1]));
    _mm512_store_si512(shares, whole);
}

/* Softmax of a row of scores in the blocks from `first` to before `end`: the shares of the tokens that it sees. Returns
   what the sum of the values, each times its share, is to be multiplied by. */
INLINE float weigh(const Network *n, int layer, int head, const int32_t *block, const float *scores, __m512 most,
                   int16_t *shares, Seen seen, int first, int end) {
    const __m512 top = _mm512_set1_ps(_mm512_reduce_max_ps(most));
    __m512 sum = _mm512_setzero_ps();
    for (int b = first; b < end; b++) {
        const float *unit = place_of(n, layer, head, block[b]).value_unit, *from = scores + (long)b * TOKENS;
        int16_t *to = shares + (long)b * TOKENS;
        const Seen here = in_block(seen, b);
        if (is_whole(here)) /* the usual case, without masks */
            UNROLLED (int t = 0; t < TOKENS; t += 2 * LANES) share(from + t, unit + t, 0xffff, 0xffff, top, &sum, to + t);
        else
            for (int t = 0; t < TOKENS; t += 2 * LANES)
                share(from + t, unit + t, lanes_of(here, t), lanes_of(here, t + LANES), top, &sum, to + t);
    }
    return 1 / _mm512_reduce_add_ps(sum);
}

/* Adds up the values of blocks in some columns, each times its share, and writes the sums times `scale`. */
INLINE void mix_blocks(const int rows, const int columns, const Network *n, int layer, int head, const int32_t *block,
                       int first, int end, const int16_t *shares, int dim, const float *scale, float *const *to) {
    const int width = n->shape.width;
    float out[QUERIES * 4 * LANES] __attribute__((aligned(64)));
    memset(out, 0, sizeof out);
    for (int b = first; b < end; b++) {
        const int16_t *values = place_of(n, layer, head, block[b]).values + 2 * dim;
        const int16_t *ahead = place_of(n, layer, head, block[b + 1 < end ? b + 1 : first]).values + 2 * dim;
        mix(rows, columns, shares + (long)b * TOKENS, n->share_stride, values, width, out, ahead);
    }
    for (int r = 0; r < rows; r++)
        for (int c = 0; c < columns; c++) {
            const __m512 v = _mm512_load_ps(out + (r * columns + c) * LANES);
            _mm512_storeu_ps(to[r] + dim + c * LANES, _mm512_mul_ps(v, _mm512_set1_ps(scale[r])));
        }
}

INLINE void attend(const int rows, Network *n, int thread, int layer, int sequence, int head, int row) {
    const Shape *s = &n->shape;
    const int width = s->width, group = s->heads / s->key_heads, window = n->model->layer[layer].window;
    const int begin = n->pass.begins[sequence], past = n->pass.past[sequence];
    const int32_t *block = n->pass.blocks + n->pass.block_begins[sequence];
    const long at = ((long)head * n->most + begin) * group + row;
    float *scores = n->scratch[thread].scores, *to[QUERIES], scale[QUERIES];
    int16_t *shares = n->scratch[thread].shares;
    Seen seen[QUERIES];
    __m512 most[QUERIES];
    for (int r = 0; r < rows; r++) {
        const int token = (row + r) / group, own = past + token + 1;
        seen[r] = (Seen){window && own > window ? own - window : 0, own};
        most[r] = _mm512_set1_ps(-INFINITY);
        to[r] = n->attended + ((long)(begin + token) * s->heads + head * group + (row + r) % group) * width;
    }
    const int first = seen[0].first / TOKENS, end = (seen[rows - 1].end + TOKENS - 1) / TOKENS;
    for (int b = first; b < end; b++) {
        const Place here = place_of(n, layer, head, block[b]);
        const int16_t *ahead = place_of(n, layer, head, block[b + 1 < end ? b + 1 : first]).keys;
        const int16_t *query = n->query + at * width;
        float *into = scores + (long)b * TOKENS;
        Seen of_rows[QUERIES];
        for (int r = 0; r < rows; r++) of_rows[r] = in_block(seen[r], b);
        if (is_whole(of_rows[0]) && is_whole(of_rows[rows - 1])) /* the first row ends first, the last begins last */
            score(rows, NULL, query, n->query_scale + at, &here, width, into, n->score_stride, most, ahead);
        else
            score(rows, of_rows, query, n->query_scale + at, &here, width, into, n->score_stride, most, ahead);
    }
    for (int r = 0; r < rows; r++)
        scale[r] = weigh(n, layer, head, block, scores + r * n->score_stride, most[r], shares + r * n->share_stride,
                         seen[r], first, end);
    int dim = 0;
    for (; dim + 4 * LANES <= width; dim += 4 * LANES)
        mix_blocks(rows, 4, n, layer, head, block, first, end, shares, dim, scale, to);
    if (dim < width) mix_blocks(rows, 2, n, layer, head, block, first, end, shares, dim, scale, to);
}

#define ATTEND(COUNT)                                                                                                  \
    case COUNT: attend(COUNT, n, thread, layer, s, h, row); break;

static void attention(Network *n, int thread, int layer) {
    const int group = n->shape.heads / n->shape.key_heads;
    int turn = 0, mine = atomic_fetch_add(&n->next, 1);
    for (int s = 0; s < n->pass.sequences; s++) {
        const int rows = (n->pass.begins[s + 1] - n->pass.begins[s]) * group, parts = (rows + QUERIES - 1) / QUERIES;
        for (int h = 0; h < n->shape.key_heads; h++)
            for (int p = 0; p < parts; p++) {
                if (turn++ != mine) continue;
                mine = atomic_fetch_add(&n->next, 1);
                const int row = (long)rows * p / parts;
                switch ((int)((long)rows * (p + 1) / parts) - row) {
                    ATTEND(1) ATTEND(2) ATTEND(3) ATTEND(4) ATTEND(5) ATTEND(6)
                }
            }
    }
}

/* ---- the pass ---- */

static void embed(Network *n, int token) {
    const Model *m = n->model;
    const int half = n->shape.width / 2, hidden = n->shape.hidden;
    const int64_t id = n->pass.ids[token];
    const uint8_t *from = m->embedding + id * hidden;
    float *to = n->stream + (long)token * hidden;
    const float scale = m->embedding_scale[id], zero = m->embedding_zero[id];
    for (int k = 0; k < hidden; k++) to[k] = (from[k] - zero) * scale;
    for (int k = 0; k < half; k++) {
        const float angle = n->pass.positions[token] * m->frequencies[k];
        n->cosine[(long)token * half + k] = cosf(angle) * n->shape.rotary_scale;
        n->sine[(long)token * half + k] = sinf(angle) * n->shape.rotary_scale;
    }
}

/* silu(gate) * up */
static void gated(const float *gate, const float *up, float *to, int count) {
    const __m512 one = _mm512_set1_ps(1), by = _mm512_set1_ps(-LOG2_E), most = _mm512_set1_ps(126);
    for (int k = 0; k < count; k += LANES) {
        const __m512 g = _mm512_loadu_ps(gate + k);
        const __m512 e = power_of_two(_mm512_min_ps(_mm512_mul_ps(g, by), most), POWER_5, 5, 1);
        _mm512_storeu_ps(to + k, _mm512_mul_ps(_mm512_div_ps(g, _mm512_add_ps(one, e)), _mm512_loadu_ps(up + k)));
    }
}

/* Normalises and quantises rows of the residual stream for the matrix that reads them next. */
static void read_stream(Network *n, int thread, const float *stream, const float *norm, int from, int to) {
    const int hidden = n->shape.hidden;
    float *line = n->scratch[thread].line;
    for (int t = from; t < to; t++) {
        normalise(stream + (long)t * hidden, norm, line, hidden, n->shape.epsilon);
        quantise(line, &n->narrow, t);
    }
}

/* The adapter of a row: of a token, or in the last layer of one whose logits are wanted. */
INLINE const Adapter *adapter_of(const Network *n, int row, int last) {
    return n->pass.adapters[last ? n->pass.wanted_at[row] : row];
}

#define ADAPT(COUNT)                                                                                                   \
    case COUNT: adapt_rows(COUNT, thin, adapter->rank, lines, inputs, outputs, to_row, stride); break;

/* Adds what the rows' adapters make of `x` to the outputs of a matrix, `stride` from row to row. */
static void adapt(Network *n, int thread, int layer, int last, int which, const Rows *x, float *out, int outputs,
                  long stride, int from, int to) {
    float *lines = n->scratch[thread].lines;
    const int inputs = x->inputs, groups = inputs / x->group;
    for (int row = n->pass.adapters ? from : to, rows; row < to; row += rows) {
        const Adapter *adapter = adapter_of(n, row, last);
        for (rows = 1; rows < ROWS && row + rows < to && adapter_of(n, row + rows, last) == adapter; rows++) {}
        const Thin *thin = adapter ? adapter->matrices + (long)layer * ADAPTED + which : NULL;
        if (!thin || !thin->down) continue;
        for (int r = 0; r < rows; r++)
            for (int k = 0; k < inputs; k += LANES) {
                const int8_t *level = x->levels + (long)(row + r) * inputs + k;
                const __m512 scale = _mm512_set1_ps(x->scale[(long)(row + r) * groups + k / x->group]);
                const __m512i whole = _mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)level));
                _mm512_storeu_ps(lines + (long)r * inputs + k, _mm512_mul_ps(_mm512_cvtepi32_ps(whole), scale));
            }
        float *to_row = out + row * stride;
        switch (rows) { ADAPT(1) ADAPT(2) ADAPT(3) ADAPT(4) ADAPT(5) ADAPT(6) ADAPT(7) ADAPT(8) }
    }
}

/* The part of a thread in a pass: of rows between products, of outputs in them. */
static void run(Network *n, int thread) {
    const Shape *s = &n->shape;
    const Model *m = n->model;
    const Pass *pass = &n->pass;
    const int attended = s->heads * s->width, keys = s->key_heads * s->width;
    float *line = n->scratch[thread].line, *stream = n->stream;
    int rows = pass->tokens, from = share_from(n, thread, rows), to = share_from(n, thread + 1, rows), first = 0;
    while (first < pass->sequences && pass->begins[first + 1] <= from) first++;
    for (int t = from; t < to; t++) embed(n, t);
    for (int number = 0; number < s->layers; number++) {
        const Layer *layer = m->layer + number;
        read_stream(n, thread, stream, layer->before, from, to);
        meet(n, thread, BETWEEN);
        product(n, &layer->qkv, &n->narrow, rows, n->qkv, 0);
        meet(n, thread, MATRICES);
        const long wide = attended + 2 * keys;
        adapt(n, thread, number, 0, QUERY, &n->narrow, n->qkv, attended, wide, from, to);
        adapt(n, thread, number, 0, KEY, &n->narrow, n->qkv + attended, keys, wide, from, to);
        adapt(n, thread, number, 0, VALUE, &n->narrow, n->qkv + attended + keys, keys, wide, from, to);
        for (int t = from, sequence = first; t < to; t++) {
            while (pass->begins[sequence + 1] <= t) sequence++;
            remember(n, number, sequence, t);
        }
        meet(n, thread, BETWEEN);
        attention(n, thread, number);
        meet(n, thread, ATTENTION);
        const int last = number == s->layers - 1;
        if (last) { /* From here on only tokens whose logits are wanted. */
            rows = pass->wanted, from = share_from(n, thread, rows), to = share_from(n, thread + 1, rows);
            stream = n->last;
        }
        for (int t = from; t < to; t++) {
            const int64_t at = last ? pass->wanted_at[t] : t;
            if (last) memcpy(stream + (long)t * s->hidden, n->stream + at * s->hidden, sizeof(float) * s->hidden);
            quantise(n->attended + at * attended, &n->mixed, t);
        }
        meet(n, thread, BETWEEN);
        product(n, &layer->out, &n->mixed, rows, stream, 1);
        meet(n, thread, MATRICES);
        adapt(n, thread, number, last, OUT, &n->mixed, stream, s->hidden, s->hidden, from, to);
        read_stream(n, thread, stream, layer->after, from, to);
        meet(n, thread, BETWEEN);
        product(n, &layer->up, &n->narrow, rows, n->gates, 0);
        meet(n, thread, MATRICES);
        adapt(n, thread, number, last, GATE, &n->narrow, n->gates, s->inner, 2 * s->inner, from, to);
        adapt(n, thread, number, last, UP, &n->narrow, n->gates + s->inner, s->inner, 2 * s->inner, from, to);
        for (int t = from; t < to; t++) {
            const float *gate = n->gates + (long)t * 2 * s->inner;
            gated(gate, gate + s->inner, line, s->inner);
            quantise(line, &n->inner, t);
        }
        meet(n, thread, BETWEEN);
        product(n, &layer->down, &n->inner, rows, stream, 1);
        meet(n, thread, MATRICES);
        adapt(n, thread, number, last, DOWN, &n->inner, stream, s->hidden, s->hidden, from, to);
    }
    read_stream(n, thread, stream, m->norm, from, to);
    meet(n, thread, BETWEEN);
    if (pass->panels) product_of(n, &m->head, pass->panels, pass->panel_count, &n->narrow, rows, pass->logits);
    else product(n, &m->head, &n->narrow, rows, pass->logits, 0);
    meet(n, thread, MATRICES);
}

typedef struct {
    Network *network;
    int thread;
} Worker;

static void *work(void *given) {
    const Worker w = *(Worker *)given;
    Network *n = w.network;
    free(given);
    for (int done = 0;; done++) {
        for (int i = 0; i < SPINS && atomic_load(&n->passes) == done; i++) _mm_pause();
        if (atomic_load(&n->passes) == done) {
            pthread_mutex_lock(&n->lock);
            while (atomic_load(&n->passes) == done) pthread_cond_wait(&n->wake, &n->lock);
            pthread_mutex_unlock(&n->lock);
        }
        if (atomic_load(&n->stop)) return NULL;
        run(n, w.thread);
    }
}

static void wake_workers(Network *n) {
    pthread_mutex_lock(&n->lock);
    atomic_fetch_add(&n->passes, 1);
    pthread_cond_broadcast(&n->wake);
    pthread_mutex_unlock(&n->lock);
}

void network_free(Network *n) {
    atomic_store(&n->stop, 1);
    wake_workers(n);
    for (int t = 1; t < n->threads; t++) pthread_join(n->thread[t], NULL);
    pthread_mutex_destroy(&n->lock), pthread_cond_destroy(&n->wake);
    give_back(&n->arena);
    free(n->thread), free(n->scratch), free(n);
}

/* most: tokens of a pass. blocks: of memory. longest: tokens of a sequence. Returns NULL if there is no memory, or no
   thread. */
Network *network_new(const Model *model, int threads, int most, int blocks, int longest) {
    const Shape *s = &model->shape;
    Network *n = calloc(1, sizeof *n);
    if (!n) return NULL;
    n->shape = *s, n->model = model, n->most = most;
    longest = (longest + TOKENS - 1) / TOKENS * TOKENS;
    n->score_stride = longest + LANES, n->share_stride = longest + 2 * LANES; /* no power of two: rows would share lines */
    n->thread = calloc(threads, sizeof *n->thread), n->scratch = calloc(threads, sizeof *n->scratch);
    pthread_mutex_init(&n->lock, NULL), pthread_cond_init(&n->wake, NULL);
    n->threads = 1;
    Arena *a = &n->arena;
    const size_t floats = sizeof(float) * most;
    const int attended = s->heads * s->width;
    n->memory = take(a, block_bytes(s) * blocks);
    n->stream = take(a, floats * s->hidden), n->last = take(a, floats * s->hidden);
    n->qkv = take(a, floats * (attended + 2 * s->key_heads * s->width));
    n->attended = take(a, floats * attended), n->gates = take(a, floats * 2 * s->inner);
    n->cosine = take(a, floats * s->width / 2), n->sine = take(a, floats * s->width / 2);
    n->query = take(a, sizeof(int16_t) * most * attended), n->query_scale = take(a, floats * s->heads);
    shape_rows(a, &n->narrow, most, s->hidden, s->group);
    shape_rows(a, &n->mixed, most, attended, s->group);
    shape_rows(a, &n->inner, most, s->inner, s->group);
    for (int t = 0; n->scratch && t < threads; t++) {
        const int longer = s->inner > s->hidden ? s->inner : s->hidden, widest = longer > attended ? longer : attended;
        n->scratch[t].line = take(a, sizeof(float) * longer), n->scratch[t].lines = take(a, sizeof(float) * ROWS * widest);
        n->scratch[t].scores = take(a, sizeof(float) * QUERIES * n->score_stride);
        n->scratch[t].shares = take(a, sizeof(int16_t) * QUERIES * n->share_stride);
    }
    int whole = n->thread && n->scratch && !a->failed;
    for (int t = 1; whole && t < threads; t++) {
        Worker *w = malloc(sizeof *w);
        if (w) *w = (Worker){n, t};
        whole = w && !pthread_create(&n->thread[t], NULL, work, w);
        if (!whole) free(w);
        n->threads += whole;
    }
    if (whole) return n;
    network_free(n);
    return NULL;
}

/* Copies one block over another, in all layers. */
void network_copy(Network *n, int source, int target) {
    const size_t bytes = block_bytes(&n->shape);
    memcpy(n->memory + bytes * target, n->memory + bytes * source, bytes);
}

/* The memory of a block, as `Place` says, of all layers and key heads. */
char *network_block(const Network *n, int block) { return n->memory + block_bytes(&n->shape) * block; }

/* Runs a pass; `ids` must be in the vocabulary, and `tokens` at most what the network was made for. */
void network_forward(Network *n, const Pass *pass) {
    n->pass = *pass;
    n->since = __rdtsc();
    if (n->threads > 1) wake_workers(n);
    run(n, 0);
}

/* The first thread's cycles since the network was made: matrices, attention, the steps between, waiting. */
void network_spent(const Network *n, double spent[KINDS]) {
    for (int k = 0; k < KINDS; k++) spent[k] = n->spent[k];
}

const char *source_hash(void) { return SOURCE_HASH; }

/* Whether matrices are multiplied with AMX here. */
int with_amx(void) { return use_amx; }

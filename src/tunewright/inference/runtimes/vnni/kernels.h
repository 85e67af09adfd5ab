/* What all our kernels share: memory, and rows times matrices in int8 on processors with AVX-512 VNNI.

   Weights are unsigned bytes with a scale and a zero point for each output. Rows are quantised when they meet a matrix,
   in groups of inputs with a scale each; the sums of a group are exact. What a row becomes never depends on the rows
   beside it, on the number of threads, or on what memory held before. */

#include <immintrin.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define INLINE static inline __attribute__((always_inline))
#define UNROLLED _Pragma("GCC unroll 8") for

enum {
    LANES = 16,    /* numbers of 32 bits in a register */
    WIDE = 3,      /* registers of outputs in a panel of a matrix */
    PANEL = WIDE * LANES,
    ROWS = 8,      /* rows at once: 8 x 3 sums take 24 of 32 registers */
    SPINS = 4000,  /* looks of a waiting thread, about 0.2 ms, before it gives its core away */
};

static const float TOP_ROW = 127; /* the largest whole number of a row */
static const float LOG2_E = 1.44269504f;

/* ---- memory ---- */

enum { HUGE_PAGE = 2 << 20, REGION = 32 << 20 };

/* Memory in large regions, each of huge pages if the system has them: a pass reads all weights, and small pages are too
   many for the processor to know where they are. What is never written takes no memory. */
typedef struct {
    char **regions;
    int count, failed;
    size_t left; /* in the last region, at its end */
    char *next;
} Arena;

static void *take(Arena *arena, size_t bytes) {
    bytes = (bytes + 63) / 64 * 64;
    if (bytes > arena->left) {
        const size_t whole = bytes > REGION ? (bytes + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE : REGION;
        void *found = NULL;
        char **more = realloc(arena->regions, sizeof *more * (arena->count + 1));
        if (more) arena->regions = more;
        if (!more || posix_memalign(&found, HUGE_PAGE, whole)) {
            arena->failed = 1;
            return NULL;
        }
        madvise(found, whole, MADV_HUGEPAGE);
        arena->next = arena->regions[arena->count++] = found, arena->left = whole;
    }
    arena->next += bytes, arena->left -= bytes;
    return arena->next - bytes;
}

static void give_back(Arena *arena) {
    for (int i = 0; i < arena->count; i++) free(arena->regions[i]);
    free(arena->regions);
}

/* ---- matrices ---- */

typedef struct {
    int outputs, inputs;
    uint8_t *levels; /* [panels][inputs / 4][outputs of the panel][4] */
    float *scale, *zero, *bias; /* [outputs] */
} Matrix;

/* Outputs are rounded up to whole registers; the scales of those that nobody packs are 0, and so are they. The levels are
   not written yet, and lie by themselves: their pages come into being as threads pack them side by side. */
static void shape_matrix(Arena *levels, Arena *vectors, Matrix *m, int outputs, int inputs) {
    m->outputs = (outputs + LANES - 1) / LANES * LANES, m->inputs = inputs;
    m->levels = take(levels, (size_t)m->outputs * inputs);
    float **each[] = {&m->scale, &m->zero, &m->bias};
    for (int v = 0; v < 3; v++)
        if ((*each[v] = take(vectors, sizeof(float) * m->outputs))) memset(*each[v], 0, sizeof(float) * m->outputs);
}

static int panel_width(const Matrix *m, int first) {
    return m->outputs - first < PANEL ? m->outputs - first : PANEL;
}

/* Copies `outputs` rows of a matrix from row `at` on, in the order in which passes read them. bias: may be NULL. */
static void pack_matrix(Matrix *m, int at, int outputs, const uint8_t *levels, const float *scale, const uint8_t *zero,
                        const float *bias) {
    for (int done = 0; done < outputs;) {
        const int output = at + done, first = output / PANEL * PANEL, wide = panel_width(m, first);
        const int count = first + wide - output < outputs - done ? first + wide - output : outputs - done;
        const uint8_t *from = levels + (long)done * m->inputs;
        uint8_t *to = m->levels + (long)first * m->inputs + 4 * (output - first);
        for (int k = 0; k < m->inputs; k += 4, to += 4 * wide)
            for (int o = 0; o < count; o++) memcpy(to + 4 * o, from + (long)o * m->inputs + k, 4);
        done += count;
    }
    memcpy(m->scale + at, scale, sizeof(float) * outputs); /* in a file they may lie anywhere */
    if (bias) memcpy(m->bias + at, bias, sizeof(float) * outputs);
    for (int o = 0; o < outputs; o++) m->zero[at + o] = zero[o];
}

/* ---- rows times a matrix ---- */

typedef struct {
    int8_t *levels; /* [rows, inputs] */
    float *scale;   /* [rows, groups] */
    float *sum;     /* [rows]: of the values, for the zero points */
    int inputs, group;
} Rows;

static void shape_rows(Arena *arena, Rows *x, int most, int inputs, int group) {
    x->inputs = inputs, x->group = group;
    x->levels = take(arena, (size_t)most * inputs);
    x->scale = take(arena, sizeof(float) * most * (inputs / group));
    x->sum = take(arena, sizeof(float) * most);
}

/* Compilers copy the sums between registers if they see an intrinsic; so they stay where they are. */
INLINE void add_bytes(__m512i *sum, __m512i unsigned_bytes, __m512i signed_bytes) {
    __asm__("vpdpbusd %2, %1, %0" : "+v"(*sum) : "v"(unsigned_bytes), "v"(signed_bytes));
}

INLINE __m512i repeated(const void *four_bytes) {
    int value;
    memcpy(&value, four_bytes, 4);
    return _mm512_set1_epi32(value);
}

typedef struct {
    const Matrix *matrix;
    const Rows *rows;
    float *out; /* [rows, outputs] */
    int add;    /* whether to add to it */
    int first;  /* output of the panel */
    int row;
    const uint8_t *ahead; /* its part of what comes next, fetched meanwhile */
    int move;             /* bytes of that for each step of four inputs */
} Tile;

INLINE void tile(const int rows, const int wide, const Tile *t) {
    const Matrix *m = t->matrix;
    const Rows *x = t->rows;
    const int groups = m->inputs / x->group, steps = x->group / 4;
    const uint8_t *levels = m->levels + (long)t->first * m->inputs, *ahead = t->ahead;
    const int8_t *row = x->levels + (long)t->row * m->inputs;
    float part[ROWS * WIDE * LANES] __attribute__((aligned(64)));
    int g = 0;
    do {
        __m512i sum[ROWS][WIDE];
        UNROLLED (int r = 0; r < rows; r++)
            UNROLLED (int c = 0; c < wide; c++) sum[r][c] = _mm512_setzero_si512();
        for (int k = 0; k < steps; k++) {
            __m512i column[WIDE];
            UNROLLED (int c = 0; c < wide; c++) column[c] = _mm512_load_si512(levels + 64 * c);
            levels += 64 * wide;
            _mm_prefetch((const char *)ahead, _MM_HINT_T1);
            ahead += t->move;
            UNROLLED (int r = 0; r < rows; r++) {
                const __m512i four = repeated(row + (long)r * m->inputs + 4 * k);
                UNROLLED (int c = 0; c < wide; c++) add_bytes(&sum[r][c], column[c], four);
            }
        }
        UNROLLED (int r = 0; r < rows; r++) {
            const __m512 scale = _mm512_set1_ps(x->scale[(long)(t->row + r) * groups + g]);
            UNROLLED (int c = 0; c < wide; c++) {
                float *p = part + (r * WIDE + c) * LANES;
                const __m512 before = g ? _mm512_load_ps(p) : _mm512_setzero_ps();
                _mm512_store_ps(p, _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum[r][c]), scale, before));
            }
        }
        row += x->group;
    } while (++g < groups);
    UNROLLED (int r = 0; r < rows; r++) {
        const __m512 whole = _mm512_set1_ps(x->sum[t->row + r]);
        float *out = t->out + (long)(t->row + r) * m->outputs + t->first;
        UNROLLED (int c = 0; c < wide; c++) {
            const int o = t->first + c * LANES;
            __m512 v = _mm512_load_ps(part + (r * WIDE + c) * LANES);
            v = _mm512_fnmadd_ps(_mm512_loadu_ps(m->zero + o), whole, v);
            v = _mm512_fmadd_ps(v, _mm512_loadu_ps(m->scale + o), _mm512_loadu_ps(m->bias + o));
            _mm512_storeu_ps(out + c * LANES, t->add ? _mm512_add_ps(v, _mm512_loadu_ps(out + c * LANES)) : v);
        }
    }
}

#define TILES(COUNT)                                                                                                   \
    case COUNT:                                                                                                        \
        if (wide == 3 * LANES) tile(COUNT, 3, &t);                                                                     \
        else if (wide == 2 * LANES) tile(COUNT, 2, &t);                                                                \
        else tile(COUNT, 1, &t);                                                                                       \
        break;

/* skip: how many panels further on the next one is that this thread is likely to take. */
static void panel(const Matrix *m, int number, int skip, const Rows *x, int rows, float *out, int add) {
    const int first = number * PANEL, wide = panel_width(m, first), tiles = (rows + ROWS - 1) / ROWS;
    const uint8_t *next = m->levels + (long)(first + skip * PANEL) * m->inputs;
    const int move = (4 * PANEL + tiles - 1) / tiles;
    for (int n = 0; n < tiles; n++) {
        const int row = (long)rows * n / tiles, count = (long)rows * (n + 1) / tiles - row;
        const Tile t = {m, x, out, add, first, row, next + (long)n * move * m->inputs / 4, move};
        switch (count) { TILES(1) TILES(2) TILES(3) TILES(4) TILES(5) TILES(6) TILES(7) TILES(8) }
    }
}

/* ---- single rows ---- */

INLINE __m512 most_of(const float *v, int count) {
    const __m512 sign = _mm512_set1_ps(-0.0f);
    __m512 most = _mm512_setzero_ps();
    for (int k = 0; k < count; k += LANES)
        most = _mm512_max_ps(most, _mm512_andnot_ps(sign, _mm512_loadu_ps(v + k)));
    return most;
}

/* The numbers of a register before `end`. */
INLINE __mmask16 lanes_below(int end) { return end >= LANES ? 0xffff : end <= 0 ? 0 : (1 << end) - 1; }

static void quantise(const float *v, Rows *x, int row) {
    const int groups = x->inputs / x->group;
    float whole = 0;
    for (int g = 0; g < groups; g++) {
        const float *from = v + (long)g * x->group;
        int8_t *to = x->levels + (long)row * x->inputs + (long)g * x->group;
        const float top = _mm512_reduce_max_ps(most_of(from, x->group));
        const __m512 by = _mm512_set1_ps(top > 0 ? TOP_ROW / top : 0);
        __m512i sum = _mm512_setzero_si512();
        for (int k = 0; k < x->group; k += LANES) {
            const __m512i level = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_loadu_ps(from + k), by));
            sum = _mm512_add_epi32(sum, level);
            _mm_storeu_si128((__m128i *)(to + k), _mm512_cvtsepi32_epi8(level));
        }
        x->scale[(long)row * groups + g] = top / TOP_ROW;
        whole += top / TOP_ROW * _mm512_reduce_add_epi32(sum);
    }
    x->sum[row] = whole;
}

/* 2 to the power x, for -126 <= x <= 126; below, 2 to the power -126. Minimax polynomials (Remez) over what is behind
   the comma. Of the value, the one of 4 terms errs by 3e-6 at most, the one of 5 by 8e-8. */
static const float POWER_4[] = {1.000002593f, 6.930038345e-1f, 2.414427569e-1f, 5.201146061e-2f, 1.353416792e-2f};
static const float POWER_5[] = {9.999999251e-1f, 6.931530732e-1f, 2.401536170e-1f,
                                5.582631805e-2f, 8.989340091e-3f, 1.877576675e-3f};

/* times: a constant that the result is multiplied by. */
INLINE __m512 power_of_two(__m512 x, const float *series, const int terms, const float times) {
    x = _mm512_max_ps(x, _mm512_set1_ps(-126));
    const __m512 rest = _mm512_reduce_ps(x, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
    __m512 power = _mm512_set1_ps(series[terms] * times);
    UNROLLED (int k = terms - 1; k >= 0; k--) power = _mm512_fmadd_ps(power, rest, _mm512_set1_ps(series[k] * times));
    return _mm512_scalef_ps(power, x);
}

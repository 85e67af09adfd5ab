/* What all our kernels share: memory, and rows times matrices in int8 on processors with AVX-512 VNNI, with AMX too if
   they have it.

   Weights are unsigned bytes with a scale and a zero point for each output. Rows are quantised when they meet a matrix,
   in groups of inputs with a scale each; the sums of a group are exact. What a row becomes never depends on the rows
   beside it, on the number of threads, or on what memory held before. */

#include <cpuid.h>
#include <immintrin.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

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

/* Adds the sums of group `g` times its scale to what is there of the groups before. */
INLINE void add_sums(float *part, __m512i sums, float scale, int g) {
    const __m512 before = g ? _mm512_load_ps(part) : _mm512_setzero_ps();
    _mm512_store_ps(part, _mm512_fmadd_ps(_mm512_cvtepi32_ps(sums), _mm512_set1_ps(scale), before));
}

/* Takes the zero points from the sums of row `r` of a tile, and writes its outputs. part: [wide, LANES] */
INLINE void finish_row(const int wide, const Tile *t, int r, const float *part) {
    const Matrix *m = t->matrix;
    const __m512 whole = _mm512_set1_ps(t->rows->sum[t->row + r]);
    float *out = t->out + (long)(t->row + r) * m->outputs + t->first;
    UNROLLED (int c = 0; c < wide; c++) {
        const int o = t->first + c * LANES;
        __m512 v = _mm512_fnmadd_ps(_mm512_loadu_ps(m->zero + o), whole, _mm512_load_ps(part + c * LANES));
        v = _mm512_fmadd_ps(v, _mm512_loadu_ps(m->scale + o), _mm512_loadu_ps(m->bias + o));
        _mm512_storeu_ps(out + c * LANES, t->add ? _mm512_add_ps(v, _mm512_loadu_ps(out + c * LANES)) : v);
    }
}

INLINE void tile(const int rows, const int wide, const Tile *t) {
    const Matrix *m = t->matrix;
    const Rows *x = t->rows;
    const int groups = m->inputs / x->group, steps = x->group / 4;
    const uint8_t *levels = m->levels + (long)t->first * m->inputs, *ahead = t->ahead;
    const int8_t *row = x->levels + (long)t->row * m->inputs;
    float part[ROWS][WIDE * LANES] __attribute__((aligned(64)));
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
            const float scale = x->scale[(long)(t->row + r) * groups + g];
            UNROLLED (int c = 0; c < wide; c++) add_sums(part[r] + c * LANES, sum[r][c], scale, g);
        }
        row += x->group;
    } while (++g < groups);
    UNROLLED (int r = 0; r < rows; r++) finish_row(wide, t, r, part[r]);
}

/* ---- the same with AMX ---- */

/* AMX has eight registers of 16 x 64 bytes. A product of two takes 64 inputs of 16 rows and of 16 outputs. Sums of int8
   products are exact, and what follows them is the same code, so the outputs are the same to the last bit. */
enum {
    MOST_ROWS = 16,  /* of a register */
    STEP = 64,       /* inputs of a product; groups are multiples of it */
    FEWEST_ROWS = 4, /* with fewer, a product costs AMX what it costs with these */
};

typedef struct {
    uint8_t palette, start, zeros[14];
    uint16_t bytes[16]; /* of each row of each register */
    uint8_t rows[16];   /* of each register */
} TileShapes;

/* Tests put C in the place of the instructions, for processors that have none, and stop the clock. */
#ifndef AMX_IN_C
#define TICKS() __rdtsc()
#define SHAPE_TILES(SHAPES) __asm__ volatile("ldtilecfg %0" ::"m"(*(SHAPES)))
#define FREE_TILES() __asm__ volatile("tilerelease")
#define ZERO_TILE(TILE) __asm__ volatile("tilezero %%tmm" #TILE ::)
#define LOAD_TILE(TILE, FROM, STRIDE)                                                                                  \
    __asm__ volatile("tileloadd (%0,%1,1), %%tmm" #TILE ::"r"(FROM), "r"((long)(STRIDE)) : "memory")
#define STORE_TILE(TILE, TO, STRIDE)                                                                                   \
    __asm__ volatile("tilestored %%tmm" #TILE ", (%0,%1,1)" ::"r"(TO), "r"((long)(STRIDE)) : "memory")
/* SUMS += ROWS, signed, times LEVELS, unsigned */
#define ADD_TILES(SUMS, ROWS, LEVELS)                                                                                  \
    __asm__ volatile("tdpbsud %%tmm" #LEVELS ", %%tmm" #ROWS ", %%tmm" #SUMS ::)

/* Linux gives a process the large registers only if it asks for them. */
static int may_use_amx(void) {
    enum { ARCH_REQ_XCOMP_PERM = 0x1023, XFEATURE_XTILEDATA = 18, AMX_TILE = 1 << 24, AMX_INT8 = 1 << 25 };
    unsigned a, b, c, d;
    return __get_cpuid_count(7, 0, &a, &b, &c, &d) && d & AMX_TILE && d & AMX_INT8 &&
           !syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA);
}
#endif

static int use_amx;

/* rows: of the registers of sums, 0 to 2, and of rows, 3. Those of levels are 4 to 6. */
static void shape_tiles(int rows) {
    TileShapes shapes = {.palette = 1};
    for (int n = 0; n < 2 * WIDE + 1; n++) shapes.bytes[n] = 64, shapes.rows[n] = n <= WIDE ? rows : STEP / 4;
    SHAPE_TILES(&shapes);
}

/* The sums of a group of inputs. sums: [MOST_ROWS, wide, LANES] */
INLINE void sum_group(const int wide, int inputs, int group, const int8_t *row, const uint8_t *levels, int32_t *sums) {
    ZERO_TILE(0);
    if (wide > 1) ZERO_TILE(1);
    if (wide > 2) ZERO_TILE(2);
    for (int k = 0; k < group; k += STEP, row += STEP, levels += STEP * LANES * wide) {
        LOAD_TILE(3, row, inputs);
        LOAD_TILE(4, levels, 64 * wide);
        ADD_TILES(0, 3, 4);
        if (wide > 1) {
            LOAD_TILE(5, levels + 64, 64 * wide);
            ADD_TILES(1, 3, 5);
        }
        if (wide > 2) {
            LOAD_TILE(6, levels + 128, 64 * wide);
            ADD_TILES(2, 3, 6);
        }
    }
    STORE_TILE(0, sums, 64 * wide);
    if (wide > 1) STORE_TILE(1, sums + LANES, 64 * wide);
    if (wide > 2) STORE_TILE(2, sums + 2 * LANES, 64 * wide);
}

INLINE void tile_with_amx(int rows, const int wide, const Tile *t) {
    const Matrix *m = t->matrix;
    const Rows *x = t->rows;
    const int groups = m->inputs / x->group;
    const uint8_t *levels = m->levels + (long)t->first * m->inputs, *ahead = t->ahead;
    const int8_t *row = x->levels + (long)t->row * m->inputs;
    float part[MOST_ROWS][WIDE * LANES] __attribute__((aligned(64)));
    int32_t sums[2][MOST_ROWS * WIDE * LANES] __attribute__((aligned(64)));
    /* The products of a group are under way while the sums of the one before are added. */
    for (int g = 0; g <= groups; g++) {
        if (g < groups)
            sum_group(wide, m->inputs, x->group, row + (long)g * x->group, levels + (long)g * x->group * wide * LANES,
                      sums[g % 2]);
        if (!g) continue;
        for (int r = 0; r < rows; r++) {
            const float scale = x->scale[(long)(t->row + r) * groups + g - 1];
            const int32_t *from = sums[(g - 1) % 2] + r * wide * LANES;
            UNROLLED (int c = 0; c < wide; c++)
                add_sums(part[r] + c * LANES, _mm512_load_si512(from + c * LANES), scale, g - 1);
        }
        for (const uint8_t *end = ahead + (long)t->move * x->group / 4; ahead < end; ahead += 64)
            _mm_prefetch((const char *)ahead, _MM_HINT_T1);
    }
    for (int r = 0; r < rows; r++) finish_row(wide, t, r, part[r]);
}

/* ---- a panel ---- */

#define TILES(COUNT)                                                                                                   \
    case COUNT:                                                                                                        \
        if (wide == 3 * LANES) tile(COUNT, 3, &t);                                                                     \
        else if (wide == 2 * LANES) tile(COUNT, 2, &t);                                                                \
        else tile(COUNT, 1, &t);                                                                                       \
        break;

/* skip: how many panels further on the next one is that this thread is likely to take. */
static void panel(const Matrix *m, int number, int skip, const Rows *x, int rows, float *out, int add) {
    const int amx = use_amx && rows >= FEWEST_ROWS && x->group % STEP == 0, most = amx ? MOST_ROWS : ROWS;
    const int first = number * PANEL, wide = panel_width(m, first), tiles = (rows + most - 1) / most;
    const uint8_t *next = m->levels + (long)(first + skip * PANEL) * m->inputs;
    const int move = (4 * PANEL + tiles - 1) / tiles;
    if (amx) shape_tiles((rows + tiles - 1) / tiles); /* tiles with one row fewer read one of the next tile's too */
    for (int n = 0; n < tiles; n++) {
        const int row = (long)rows * n / tiles, count = (long)rows * (n + 1) / tiles - row;
        const Tile t = {m, x, out, add, first, row, next + (long)n * move * m->inputs / 4, move};
        if (!amx) switch (count) { TILES(1) TILES(2) TILES(3) TILES(4) TILES(5) TILES(6) TILES(7) TILES(8) }
        else if (wide == 3 * LANES) tile_with_amx(count, 3, &t);
        else if (wide == 2 * LANES) tile_with_amx(count, 2, &t);
        else tile_with_amx(count, 1, &t);
    }
    if (amx) FREE_TILES();
}

/* ---- the choice between the two ---- */

enum { CHECKED_ROWS = 73, CHECKED_INPUTS = 576, CHECKED_OUTPUTS = 4 * PANEL + LANES, CHECKS = 8 };

/* Ticks of the processor's clock for rows times a matrix, the fewest of some tries. */
static uint64_t ticks_of(const Matrix *m, const Rows *x, float *out) {
    uint64_t fewest = UINT64_MAX;
    for (int n = 0; n < CHECKS; n++) {
        const uint64_t began = TICKS();
        for (int first = 0; first < m->outputs; first += PANEL) panel(m, first / PANEL, 0, x, CHECKED_ROWS, out, 0);
        const uint64_t took = TICKS() - began;
        if (took < fewest) fewest = took;
    }
    return fewest;
}

/* AMX is used if a product of bytes of all kinds is the same with it, and takes no longer. An emulator was seen to multiply
   wrongly, and not every virtual machine gives the instructions at their speed. It takes a millisecond. */
static int amx_pays(void) {
    Arena arena = {0};
    Matrix m;
    Rows x;
    shape_matrix(&arena, &arena, &m, CHECKED_OUTPUTS, CHECKED_INPUTS);
    shape_rows(&arena, &x, CHECKED_ROWS, CHECKED_INPUTS, CHECKED_INPUTS / 3);
    const size_t bytes = sizeof(float) * CHECKED_ROWS * CHECKED_OUTPUTS;
    float *with = take(&arena, bytes), *without = take(&arena, bytes);
    int pays = 0;
    if (!arena.failed) {
        for (int n = 0; n < CHECKED_OUTPUTS * CHECKED_INPUTS; n++) m.levels[n] = n * 2654435761u >> 24;
        for (int o = 0; o < CHECKED_OUTPUTS; o++) m.scale[o] = 1;
        for (int n = 0; n < CHECKED_ROWS * CHECKED_INPUTS; n++) x.levels[n] = (int)(n * 2246822519u >> 24) - 128;
        for (int n = 0; n < CHECKED_ROWS * 3; n++) x.scale[n] = 1;
        memset(x.sum, 0, sizeof(float) * CHECKED_ROWS);
        use_amx = 1;
        const uint64_t ticks = ticks_of(&m, &x, with);
        use_amx = 0;
        pays = ticks <= ticks_of(&m, &x, without) && !memcmp(with, without, bytes);
    }
    give_back(&arena);
    return pays;
}

__attribute__((constructor)) static void choose(void) { use_amx = may_use_amx() && amx_pays(); }

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

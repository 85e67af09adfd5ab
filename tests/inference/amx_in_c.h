/* What AMX's instructions do, in C: tests compile the kernels with it where the processor has none (-DMAY_USE_AMX=1), and
   without AMX where it has them (-DMAY_USE_AMX=0). With -DROW_BYTE=uint8_t they multiply wrongly, as an emulator did. Source:
   Intel's Software Developer's Manual, volume 2. */

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define AMX_IN_C
#ifndef ROW_BYTE
#define ROW_BYTE int8_t
#endif

/* As LDTILECFG reads them. */
static __thread struct {
    uint8_t palette, start, zeros[14];
    uint16_t bytes[16];
    uint8_t rows[16];
} shape_of_tiles;
static __thread uint8_t tile_registers[8][16][64];

static inline void zero_tile(int tile) {
    if (!shape_of_tiles.palette) abort();
    memset(tile_registers[tile], 0, sizeof *tile_registers);
}

static inline void load_tile(int tile, const void *from, long stride) {
    zero_tile(tile);
    for (int r = 0; r < shape_of_tiles.rows[tile]; r++)
        memcpy(tile_registers[tile][r], (const char *)from + r * stride, shape_of_tiles.bytes[tile]);
}

static inline void store_tile(int tile, void *to, long stride) {
    for (int r = 0; r < shape_of_tiles.rows[tile]; r++)
        memcpy((char *)to + r * stride, tile_registers[tile][r], shape_of_tiles.bytes[tile]);
}

static inline void add_tiles(int sums, int rows, int levels) {
    if (shape_of_tiles.rows[sums] != shape_of_tiles.rows[rows]) abort();
    if (shape_of_tiles.bytes[sums] != shape_of_tiles.bytes[levels]) abort();
    if (shape_of_tiles.bytes[rows] != 4 * shape_of_tiles.rows[levels]) abort();
    for (int r = 0; r < shape_of_tiles.rows[sums]; r++)
        for (int o = 0; o < shape_of_tiles.bytes[sums] / 4; o++) {
            int32_t sum;
            memcpy(&sum, tile_registers[sums][r] + 4 * o, 4);
            for (int k = 0; k < shape_of_tiles.bytes[rows]; k++)
                sum += (ROW_BYTE)tile_registers[rows][r][k] * tile_registers[levels][k / 4][4 * o + k % 4];
            memcpy(tile_registers[sums][r] + 4 * o, &sum, 4);
        }
}

#define TICKS() 0
#define SHAPE_TILES(SHAPES) memcpy(&shape_of_tiles, SHAPES, sizeof shape_of_tiles)
#define FREE_TILES() (shape_of_tiles.palette = 0)
#define ZERO_TILE(TILE) zero_tile(TILE)
#define LOAD_TILE(TILE, FROM, STRIDE) load_tile(TILE, FROM, STRIDE)
#define STORE_TILE(TILE, TO, STRIDE) store_tile(TILE, TO, STRIDE)
#define ADD_TILES(SUMS, ROWS, LEVELS) add_tiles(SUMS, ROWS, LEVELS)

static int may_use_amx(void) { return MAY_USE_AMX; }

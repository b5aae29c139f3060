// Emulate the instructions of Intel's matrix tiles (AMX) that seqkd uses, on a processor without them. There each raises
// SIGILL. The handler here computes what Intel's manual (volume 2) says and goes on behind the instruction. Where the
// manual has the instruction fail, the process ends by SIGILL.
// Build: cc -O2 -fno-strict-aliasing -shared -fPIC. Use: load it; Python's faulthandler must not handle SIGILL.
#define _GNU_SOURCE
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <ucontext.h>
#include <xmmintrin.h>

enum { TILES = 8, ROWS = 16, ROW_BYTES = 64, FLUSH_SUBNORMALS = 0x9fc0 };  // MXCSR: no exceptions, to nearest, FTZ, DAZ

typedef struct {
  uint8_t palette, start_row, reserved[14];
  uint16_t row_bytes[TILES], no_bytes[8];
  uint8_t rows[TILES], no_rows[8];
} Configuration;

static __thread _Alignas(64) uint8_t tile[TILES][ROWS][ROW_BYTES];
static __thread Configuration configuration;  // all zeros: none

static int configure(const Configuration *given) {
  static const uint8_t zeros[16];
  if (given->palette != 1 || given->start_row || memcmp(given->reserved, zeros, sizeof given->reserved) ||
      memcmp(given->no_bytes, zeros, sizeof given->no_bytes) || memcmp(given->no_rows, zeros, sizeof given->no_rows))
    return 0;
  for (int n = 0; n < TILES; n++)
    if (given->rows[n] > ROWS || given->row_bytes[n] > ROW_BYTES || !given->rows[n] != !given->row_bytes[n]) return 0;
  configuration = *given;
  memset(tile, 0, sizeof tile);
  return 1;
}

static int move(int number, uint8_t *address, int64_t stride, int stores) {
  int bytes = configuration.row_bytes[number];
  if (!stores) memset(tile[number], 0, sizeof tile[number]);
  for (int row = 0; row < configuration.rows[number]; row++) {
    uint8_t *place = address + row * stride;
    memcpy(stores ? place : tile[number][row], stores ? tile[number][row] : place, bytes);
  }
  return configuration.rows[number] > 0;
}

static float number_of(uint16_t bfloat16) {
  uint32_t bits = (uint32_t)bfloat16 << 16;
  float number;
  memcpy(&number, &bits, sizeof number);
  return number;
}

typedef uint16_t Pairs[ROW_BYTES / 2];
typedef int8_t Quads[ROW_BYTES];

static void add_bf16(float *total, const uint16_t *left, const Pairs *right, int depth, int columns) {
  float even[ROW_BYTES / 4] = {0}, odd[ROW_BYTES / 4] = {0};
  for (int k = 0; k < depth; k++)
    for (int n = 0; n < columns; n++) {
      even[n] += number_of(left[2 * k]) * number_of(right[k][2 * n]);
      odd[n] += number_of(left[2 * k + 1]) * number_of(right[k][2 * n + 1]);
    }
  for (int n = 0; n < columns; n++) total[n] += even[n] + odd[n];
}

static void add_int8(int32_t *total, const uint8_t *left, const Quads *right, int depth, int columns) {
  for (int k = 0; k < depth; k++)
    for (int n = 0; n < columns; n++)
      for (int i = 0; i < 4; i++) total[n] += left[4 * k + i] * right[k][4 * n + i];
}

static int multiply(int total, int left, int right, int int8) {
  const Configuration *c = &configuration;
  int rows = c->rows[total], depth = c->row_bytes[left] / 4, columns = c->row_bytes[total] / 4;
  if (total == left || total == right || left == right) return 0;
  if (!rows || c->rows[left] != rows || c->rows[right] != depth || c->row_bytes[right] != 4 * columns) return 0;
  unsigned before = _mm_getcsr();
  _mm_setcsr(FLUSH_SUBNORMALS);
  for (int m = 0; m < rows; m++)
    if (int8) add_int8((void *)tile[total][m], tile[left][m], (void *)tile[right], depth, columns);
    else add_bf16((void *)tile[total][m], (void *)tile[left][m], (void *)tile[right], depth, columns);
  _mm_setcsr(before);
  return 1;
}

static uint8_t *operand(const uint8_t **code, const greg_t *registers, int more_base, int more_index, int64_t *stride) {
  static const int NAMES[] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
                              REG_R8,  REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};
  int modrm = *(*code)++, mod = modrm >> 6, base = modrm & 7;
  *stride = 0;
  if (base == 4) {  // a byte SIB follows: a scale, an index and a base; the index is the stride
    int sib = *(*code)++, index = (sib >> 3 & 7) | more_index;
    base = sib & 7;
    if (index != 4) *stride = (int64_t)((uint64_t)registers[NAMES[index]] << (sib >> 6));
  }
  int64_t address = 0;
  if (mod || base != 5) address = registers[NAMES[base | more_base]];
  if (mod == 1) address += (int8_t)*(*code)++;
  else if (mod == 2 || base == 5) {
    int32_t distance;
    memcpy(&distance, *code, sizeof distance);
    *code += sizeof distance;
    address += distance;
    if (!mod && (modrm & 7) == 5) address += (int64_t)*code;  // from the next instruction on
  }
  return (uint8_t *)address;
}

static int emulate(greg_t *registers) {
  const uint8_t *code = (const uint8_t *)registers[REG_RIP];
  // A VEX prefix of three bytes: map 0F38, W0, 128 bits; the first operand's number is below 8.
  if (code[0] != 0xc4 || (code[1] & 0x9f) != 0x82 || (code[2] & 0x84)) return 0;
  int more_base = code[1] & 0x20 ? 0 : 8, more_index = code[1] & 0x40 ? 0 : 8;
  int prefix = code[2] & 3, third = (code[2] >> 3 & 15) ^ 15, opcode = code[3], modrm = code[4];
  int first = modrm >> 3 & 7, second = (modrm & 7) | more_base, done = 0;
  enum { NONE, P66, F3, F2 };
  code += 4;
  if (modrm < 0xc0) {  // with an operand in memory
    int64_t stride;
    uint8_t *address = operand(&code, registers, more_base, more_index, &stride);
    if (opcode == 0x49 && prefix == NONE && first == 0) done = configure((const Configuration *)address);
    if (opcode == 0x4b && prefix >= F3 && (modrm & 7) == 4) done = move(first, address, stride, prefix == F3);
  } else {
    code++;
    if (opcode == 0x49 && prefix == NONE && modrm == 0xc0) {
      memset(&configuration, 0, sizeof configuration);
      done = 1;
    }
    if ((opcode == 0x5c && prefix == F3) || (opcode == 0x5e && prefix == P66))
      done = second < TILES && third < TILES && multiply(first, second, third, opcode == 0x5e);
  }
  if (done) registers[REG_RIP] = (greg_t)code;
  return done;
}

static void on_unknown_instruction(int signal_number, siginfo_t *info, void *context) {
  int sent = info->si_code <= 0;  // by a process, such as a test
  if (!sent && emulate(((ucontext_t *)context)->uc_mcontext.gregs)) return;
  signal(signal_number, SIG_DFL);
  if (sent) raise(signal_number);
}

__attribute__((constructor)) static void start(void) {
  struct sigaction action = {.sa_sigaction = on_unknown_instruction, .sa_flags = SA_SIGINFO};
  sigaction(SIGILL, &action, NULL);
}

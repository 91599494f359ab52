// The command of crossfarm/backends/dpu/commands.py: number n of a command is bits 32 n to 32 n + 31.
package dpu_pkg;
  typedef struct packed {
    logic [31:0] cycles, scale, bias, weights, second;
    logic [31:0] dilation_x, dilation_y, stride_x, stride_y, kernel_x, kernel_y;
    logic [31:0] out_stride, out_width, out_rows, out_address;
    logic signed [31:0] in_x, in_y;
    logic [31:0] in_words, in_width, in_rows, in_address;
    logic [31:0] words, bank, memory, left_b, left_a;
    logic signed [31:0] shift, high, low;
    logic [31:0] waits, kind, op;
  } command_t;

  localparam logic [31:0] WEIGHTS = 2, SAVE = 3, CONV = 4, LAYER = 6;
  localparam logic [31:0] MAX = 1, AVERAGE = 2, ADD = 3, DEPTHWISE = 4, TABLE = 6;
endpackage

// The array: two engines, one that moves words between memory and banks, and one that computes on the banks.
//
// It is written to be simulated: each step of a window takes one cycle with its rounding, and the banks have as many ports as
// a step reads. It says how many cycles a command list takes, not how fast a clock can be.
module dpu_core
  import dpu_pkg::*;
#(
    parameter int PIXELS = 8,
    parameter int CHANNELS = 16,
    parameter int ALU_PIXELS = 4,
    parameter int FEATURE_WORDS = 32768,
    parameter int WEIGHT_WORDS = 67584,
    localparam int WORD = 8 * CHANNELS,
    localparam int PORT = 4
) (
    input logic clk,
    input logic reset,
    input logic [31:0] rate,  // words a cycle between memory and banks, in parts of 65536
    // The next command of each engine, when there is one.
    output logic [31:0] memory_index,
    input logic memory_valid,
    input command_t memory_command,
    output logic [31:0] array_index,
    input logic array_valid,
    input command_t array_command,
    // So many words are moved in this cycle; what is read stands there in the same cycle.
    output logic [31:0] port_address,
    output logic [31:0] port_words,
    output logic port_write,
    input logic [PORT*WORD-1:0] port_in,
    output logic [PORT*WORD-1:0] port_out,
    output logic idle
);
  localparam int FEATURE_BITS = $clog2(FEATURE_WORDS);
  localparam int WEIGHT_BITS = $clog2(WEIGHT_WORDS);

  logic [WORD-1:0] features[FEATURE_WORDS];
  logic [WORD-1:0] weights[WEIGHT_WORDS];

  // Each engine uses some numbers of a command.
  /* verilator lint_off UNUSEDSIGNAL */
  command_t m, a;
  /* verilator lint_on UNUSEDSIGNAL */
  logic m_runs, a_runs;
  logic [31:0] m_ended, a_ended, m_moved, m_credit;
  logic [31:0] y, x, ky, kx, k, line, waited;
  logic [32*CHANNELS-1:0] sums[PIXELS];

  // ---- memory engine ----
  logic [31:0] credit_now, moved_now;
  always_comb begin
    credit_now = m_credit + rate;
    moved_now = credit_now >> 16;
    if (moved_now > m.words - m_moved) moved_now = m.words - m_moved;
    port_words = m_runs ? moved_now : 0;
    port_address = m.memory + m_moved;
    port_write = m_runs && m.op == SAVE;
    port_out = '0;
    if (port_write)
      for (int n = 0; n < PORT; n++) port_out[WORD*n+:WORD] = feature_at(m.bank + m_moved + n);
  end

  // ---- array ----
  logic is_conv, is_window, starts_window, ends_window, ends_pixel, ends_row, ends;
  logic [31:0] lanes;
  always_comb begin
    is_conv = a.op == CONV;
    is_window = is_conv || a.kind == MAX || a.kind == AVERAGE || a.kind == DEPTHWISE;
    lanes = is_conv ? PIXELS : ALU_PIXELS;
    starts_window = ky == 0 && kx == 0 && (!is_conv || k == 0);
    ends_window = !is_window || (ky + 1 == a.kernel_y && kx + 1 == a.kernel_x && (!is_conv || k + 1 == a.in_words));
    ends_pixel = ends_window && k + 1 == a.in_words;
    ends_row = ends_pixel && x + 1 == a.out_width;
    ends = ends_row && y + lanes >= a.out_rows;
  end

  assign idle = !m_runs && !a_runs && !memory_valid && !array_valid;

  // An address is in words and of 32 bits; the banks are smaller.
  /* verilator lint_off UNUSEDSIGNAL */
  function automatic logic [WORD-1:0] feature_at(input logic [31:0] address);
    return features[FEATURE_BITS'(address)];
  endfunction

  function automatic logic [WORD-1:0] weight_at(input logic [31:0] address);
    return weights[WEIGHT_BITS'(address)];
  endfunction
  /* verilator lint_on UNUSEDSIGNAL */

  // Whether the window of a lane's pixel reads a pixel now, not padding.
  function automatic logic is_inside(input logic [31:0] lane);
    logic signed [31:0] row, column;
    row = signed'((y + lane) * a.stride_y + ky * a.dilation_y) + a.in_y;
    column = signed'(x * a.stride_x + kx * a.dilation_x) + a.in_x;
    return row >= 0 && row < signed'(a.in_rows) && column >= 0 && column < signed'(a.in_width);
  endfunction

  function automatic logic [31:0] read_address(input logic [31:0] lane, input logic [31:0] from);
    logic [31:0] row, column;
    row = (y + lane) * a.stride_y + ky * a.dilation_y + unsigned'(a.in_y);
    column = x * a.stride_x + kx * a.dilation_x + unsigned'(a.in_x);
    return from + (row * a.in_width + column) * a.in_words + k;
  endfunction

  function automatic logic signed [31:0] product(input logic [WORD-1:0] one, input logic [WORD-1:0] other);
    logic signed [31:0] sum;
    sum = 0;
    for (int n = 0; n < CHANNELS; n++) sum = sum + 32'(signed'(one[8*n+:8])) * 32'(signed'(other[8*n+:8]));
    return sum;
  endfunction

  // The sums of a pixel after this step.
  function automatic logic [32*CHANNELS-1:0] summed(input logic [WORD-1:0] read, input logic is_read,
                                                    input logic [32*CHANNELS-1:0] previous, input logic is_first);
    logic signed [31:0] sum, number, factor;
    logic [WORD-1:0] kernel;
    kernel = weight_at(a.weights + (ky * a.kernel_x + kx) * a.in_words + k);
    for (int n = 0; n < CHANNELS; n++) begin
      sum = is_first ? (a.op != CONV && a.kind == MAX ? -128 : 0) : signed'(previous[32*n+:32]);
      number = 32'(signed'(read[8*n+:8]));
      factor = 32'(signed'(kernel[8*n+:8]));
      if (is_read)
        if (a.op == CONV) sum = sum + product(read, weight_at(a.weights + line * CHANNELS + n));
        else if (a.kind == MAX) sum = number > sum ? number : sum;
        else sum = sum + (a.kind == DEPTHWISE ? number * factor : number);
      summed[32*n+:32] = sum;
    end
  endfunction

  // sum / 2**shift to the nearest, ties to even.
  function automatic logic signed [63:0] shifted(input logic signed [63:0] sum, input logic signed [31:0] shift);
    logic signed [63:0] whole;
    logic [63:0] rest, half;
    if (shift <= 0) whole = sum <<< unsigned'(-shift);
    else begin
      whole = sum >>> unsigned'(shift);
      rest  = unsigned'(sum) & ((64'd1 << unsigned'(shift)) - 1);
      half  = 64'd1 << unsigned'(shift - 1);
      if (rest > half || (rest == half && whole[0])) whole = whole + 1;
    end
    return whole;
  endfunction

  function automatic logic [7:0] cut(input logic signed [63:0] value);
    logic signed [63:0] whole;
    whole = value;
    if (whole < 64'(a.low)) whole = 64'(a.low);
    if (whole > 64'(a.high)) whole = 64'(a.high);
    return whole[7:0];
  endfunction

  function automatic logic [7:0] rounded(input logic signed [63:0] sum);
    return cut(shifted(sum, a.shift));
  endfunction

  // A mean over a number that is no power of two: the sum times a positive float32, as IEEE 754 has it. The product of the sum
  // and the 24 bits of the factor is an integer; it is rounded to 24 bits first, and then to a whole number.
  function automatic logic [7:0] mean(input logic signed [63:0] sum);
    logic signed [63:0] exact;
    logic [63:0] magnitude;
    logic signed [31:0] dropped;
    exact = sum * signed'({40'd0, 1'b1, a.scale[22:0]});
    magnitude = unsigned'(exact < 0 ? -exact : exact);
    dropped = 0;
    for (int bits = 24; bits < 64; bits++) if (magnitude[bits]) dropped = bits - 23;
    return cut(shifted(shifted(exact, dropped), 150 - 32'(a.scale[30:23]) - dropped));
  endfunction

  // The result of a pixel at the end of its window.
  function automatic logic [WORD-1:0] finished(input logic [32*CHANNELS-1:0] all);
    logic [4*WORD-1:0] biases;
    logic signed [63:0] bias;
    for (int n = 0; n < 4; n++) biases[WORD*n+:WORD] = weight_at(a.bias + (a.op == CONV ? 0 : 4 * k) + n);
    for (int n = 0; n < CHANNELS; n++) begin
      bias = a.op == CONV || a.kind == DEPTHWISE ? 64'(signed'(biases[32*n+:32])) : 0;
      if (a.op != CONV && a.kind == AVERAGE && a.scale != 0) finished[8*n+:8] = mean(64'(signed'(all[32*n+:32])));
      else finished[8*n+:8] = rounded(64'(signed'(all[32*n+:32])) + bias);
    end
  endfunction

  // The result of a word of sums of two, copies and functions.
  function automatic logic [WORD-1:0] each(input logic [WORD-1:0] one, input logic [WORD-1:0] other);
    logic [WORD-1:0] entries;
    for (int n = 0; n < CHANNELS; n++) begin
      entries = weight_at(a.weights + 32'(one[8*n+:8]) / CHANNELS);
      if (a.kind == TABLE) each[8*n+:8] = 8'(entries >> (8 * (32'(one[8*n+:8]) % CHANNELS)));
      else if (a.kind == ADD)
        each[8*n+:8] = rounded(
            (64'(signed'(one[8*n+:8])) <<< a.left_a) + (64'(signed'(other[8*n+:8])) <<< a.left_b)
        );
      else each[8*n+:8] = rounded(64'(signed'(one[8*n+:8])));
    end
  endfunction

  // The banks are written with blocking assignments, which Verilator wants of arrays in loops; no command reads what it writes.
  /* verilator lint_off BLKSEQ */
  always_ff @(posedge clk) begin
    if (reset) begin
      m_runs <= 0;
      a_runs <= 0;
      m_ended <= 0;
      a_ended <= 0;
      memory_index <= 0;
      array_index <= 0;
    end else begin
      // ---- memory engine ----
      if (!m_runs) begin
        if (memory_valid && memory_command.waits <= a_ended) begin
          m <= memory_command;
          m_runs <= 1;
          m_moved <= 0;
          m_credit <= 0;
          memory_index <= memory_index + 1;
        end
      end else begin
        m_credit <= credit_now - (moved_now << 16);
        m_moved  <= m_moved + moved_now;
        for (int n = 0; n < PORT; n++)
          if (n < moved_now && m.op != SAVE) begin
            if (m.op == WEIGHTS) weights[WEIGHT_BITS'(m.bank+m_moved+n)] = port_in[WORD*n+:WORD];
            else features[FEATURE_BITS'(m.bank+m_moved+n)] = port_in[WORD*n+:WORD];
          end
        if (m_moved + moved_now == m.words) begin
          m_runs  <= 0;
          m_ended <= m_ended + 1;
        end
      end
      // ---- array ----
      if (!a_runs) begin
        if (array_valid && array_command.waits <= m_ended) begin
          a <= array_command;
          a_runs <= 1;
          array_index <= array_index + 1;
          y <= 0;
          x <= 0;
          ky <= 0;
          kx <= 0;
          k <= 0;
          line <= 0;
          waited <= 1;
        end
      end else if (a.op == LAYER) begin
        waited <= waited + 1;
        if (waited >= a.cycles) begin
          a_runs  <= 0;
          a_ended <= a_ended + 1;
        end
      end else begin
        for (int p = 0; p < PIXELS; p++)
          if (p < lanes && y + p < a.out_rows) begin
            if (!is_window)
              features[FEATURE_BITS'(a.out_address+((y+p)*a.out_width+x)*a.out_stride+k)] = each(
                  feature_at(read_address(p, a.in_address)), feature_at(read_address(p, a.second))
              );
            else if (ends_window)
              features[FEATURE_BITS'(a.out_address+((y+p)*a.out_width+x)*a.out_stride+(is_conv?0 : k))] = finished(
                  summed(feature_at(read_address(p, a.in_address)), is_inside(p), sums[p], starts_window)
              );
            else
              sums[p] = summed(feature_at(read_address(p, a.in_address)), is_inside(p), sums[p], starts_window);
          end
        // A convolution goes through the words of a pixel within its window, all others through the window of each word.
        line <= ends_window ? 0 : line + 1;
        if (is_conv ? k + 1 == a.in_words : ends_window) k <= ends_pixel || is_conv ? 0 : k + 1;
        else if (is_conv) k <= k + 1;
        if (is_window && (!is_conv || k + 1 == a.in_words)) begin
          kx <= kx + 1 == a.kernel_x ? 0 : kx + 1;
          if (kx + 1 == a.kernel_x) ky <= ky + 1 == a.kernel_y ? 0 : ky + 1;
        end
        if (ends_pixel) x <= ends_row ? 0 : x + 1;
        if (ends_row) y <= y + lanes;
        if (ends) begin
          a_runs  <= 0;
          a_ended <= a_ended + 1;
        end
      end
    end
  end
  /* verilator lint_on BLKSEQ */
endmodule

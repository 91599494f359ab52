// The machine of simulator.cpp in Verilog, for one image: a memory behind the core's AXI port, and what starts the core.
// Icarus Verilog runs it as a cross-check of another simulator; cycles and answers must be the same.
`timescale 1ns / 1ps

module bench;
  parameter BUS = 32;
  parameter BYTES = 4096;
  parameter LATENCY = 10;
  parameter MOST_CYCLES = 1000000;
  parameter OUTPUT_FIRST = 0;
  parameter OUTPUT_LAST = 0;
  localparam WORD = BUS / 8;

  reg CLK = 0;
  reg RESETN = 0;
  always #5 CLK = !CLK;

  reg [7:0] memory[0:BYTES-1];

  wire [31:0] maxi_araddr, maxi_awaddr;
  wire [7:0] maxi_arlen;
  wire maxi_arvalid, maxi_rready, maxi_awvalid, maxi_wvalid, maxi_wlast, maxi_bready, irq;
  wire [BUS-1:0] maxi_wdata;
  wire [WORD-1:0] maxi_wstrb;
  reg maxi_arready = 1, maxi_rvalid = 0, maxi_rlast = 0, maxi_awready = 1, maxi_wready = 0, maxi_bvalid = 0;
  reg [BUS-1:0] maxi_rdata = 0;

  reg [31:0] saxi_awaddr = 0, saxi_wdata = 0;
  reg saxi_awvalid = 0, saxi_wvalid = 0;
  wire saxi_awready, saxi_wready, saxi_bvalid;

  dut core (
      .CLK(CLK), .RESETN(RESETN), .irq(irq),
      .maxi_araddr(maxi_araddr), .maxi_arlen(maxi_arlen), .maxi_arvalid(maxi_arvalid), .maxi_arready(maxi_arready),
      .maxi_rdata(maxi_rdata), .maxi_rresp(2'd0), .maxi_rlast(maxi_rlast), .maxi_rvalid(maxi_rvalid),
      .maxi_rready(maxi_rready),
      .maxi_awaddr(maxi_awaddr), .maxi_awvalid(maxi_awvalid), .maxi_awready(maxi_awready),
      .maxi_wdata(maxi_wdata), .maxi_wstrb(maxi_wstrb), .maxi_wlast(maxi_wlast), .maxi_wvalid(maxi_wvalid),
      .maxi_wready(maxi_wready),
      .maxi_bresp(2'd0), .maxi_bvalid(maxi_bvalid), .maxi_bready(maxi_bready),
      .saxi_awaddr(saxi_awaddr), .saxi_awcache(4'd3), .saxi_awprot(3'd0), .saxi_awvalid(saxi_awvalid),
      .saxi_awready(saxi_awready),
      .saxi_wdata(saxi_wdata), .saxi_wstrb(4'hF), .saxi_wvalid(saxi_wvalid), .saxi_wready(saxi_wready),
      .saxi_bvalid(saxi_bvalid), .saxi_bready(1'b1),
      .saxi_araddr(32'd0), .saxi_arcache(4'd3), .saxi_arprot(3'd0), .saxi_arvalid(1'b0), .saxi_rready(1'b0)
  );

  // The memory: one burst of each kind at a time.
  reg [31:0] address = 0, target = 0;
  reg [8:0] beats = 0;
  integer waits = 0, delay = 0, place, lane;

  task show(input [31:0] from, input last);
    begin
      for (place = 0; place < WORD; place = place + 1) maxi_rdata[8*place+:8] <= memory[from+place];
      maxi_rlast <= last;
    end
  endtask

  always @(posedge CLK) begin
    if (maxi_arvalid && maxi_arready) begin
      maxi_arready <= 0;
      address <= maxi_araddr;
      beats <= maxi_arlen + 1;
      waits <= LATENCY;
    end else if (maxi_rvalid && maxi_rready) begin
      address <= address + WORD;
      beats <= beats - 1;
      if (beats == 1) begin
        maxi_rvalid <= 0;
        maxi_rlast <= 0;
        maxi_arready <= 1;
      end else show(address + WORD, beats == 2);
    end else if (beats != 0 && waits != 0) begin
      waits <= waits - 1;
      if (waits == 1) begin
        maxi_rvalid <= 1;
        show(address, beats == 1);
      end
    end
  end

  always @(posedge CLK) begin
    if (maxi_awvalid && maxi_awready) begin
      maxi_awready <= 0;
      maxi_wready <= 1;
      target <= maxi_awaddr;
    end else if (maxi_wvalid && maxi_wready) begin
      for (lane = 0; lane < WORD; lane = lane + 1)
        if (maxi_wstrb[lane]) memory[target+lane] <= maxi_wdata[8*lane+:8];
      target <= target + WORD;
      if (maxi_wlast) begin
        maxi_wready <= 0;
        delay <= LATENCY;
      end
    end else if (maxi_bvalid && maxi_bready) begin
      maxi_bvalid <= 0;
      maxi_awready <= 1;
    end else if (delay != 0) begin
      delay <= delay - 1;
      if (delay == 1) maxi_bvalid <= 1;
    end
  end

  // What starts the core, and counts from the write that does to the interrupt.
  integer cycles = 0;
  reg counts = 0;

  always @(posedge CLK) if (counts) cycles <= cycles + 1;

  task order(input [31:0] register, input [31:0] value);
    reg done;
    begin
      saxi_awaddr <= register;
      saxi_wdata <= value;
      saxi_awvalid <= 1;
      saxi_wvalid <= 1;
      done = 0;
      while (!done) begin
        @(posedge CLK);
        if (saxi_awvalid && saxi_awready) saxi_awvalid <= 0;
        if (saxi_wvalid && saxi_wready) begin
          saxi_wvalid <= 0;
          counts <= register == 16;
        end
        done = saxi_bvalid;
      end
    end
  endtask

  initial begin
    $readmemh("memory.hex", memory);
    repeat (32) @(posedge CLK);
    RESETN <= 1;
    repeat (32) @(posedge CLK);
    order(40, 1);
    order(16, 1);
    while (!irq && cycles <= MOST_CYCLES) @(posedge CLK);
    if (!irq) $display("late %0d", cycles);
    else begin
      $display("cycles %0d", cycles);
      $writememh("output.hex", memory, OUTPUT_FIRST, OUTPUT_LAST);
    end
    $finish;
  end
endmodule

// Runs a net that `sphereface convert NET WEIGHTS net.pt2 --to aoti` compiled: LibTorch alone.
//
//   run_package net.pt2 N C H W    # an input of that shape, filled with ones; prints the outputs
#include <torch/csrc/inductor/aoti_package/model_package_loader.h>

#include <ATen/ops/ones.h>

#include <cstdlib>
#include <iostream>
#include <sstream>
#include <string>
#include <vector>

int main(int argc, char** argv) {
  if (argc < 3) {
    std::cerr << "usage: run_package net.pt2 SIZE...\n";
    return 2;
  }
  std::vector<int64_t> shape;
  for (int i = 2; i < argc; ++i) shape.push_back(std::atoll(argv[i]));

  torch::inductor::AOTIModelPackageLoader net(argv[1]);
  std::istringstream names(net.get_metadata()["outputs"]);
  for (const at::Tensor& output : net.run({at::ones(shape)})) {
    std::string name;
    names >> name;
    const at::Tensor values = output.contiguous();
    std::cout << name;
    for (int64_t i = 0; i < values.numel(); ++i) std::cout << ' ' << values.data_ptr<float>()[i];
    std::cout << '\n';
  }
}

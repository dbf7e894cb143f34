// What the programs here train on: points around a centre a class, and random class weights.
#pragma once

#include <cstdint>
#include <random>
#include <vector>

#include "sphereface/problem.h"

struct Clusters {
  std::vector<float> x, weight;  // (batch, features) and (classes, features), row by row
  std::vector<int64_t> label;
};

inline Clusters clusters(int64_t batch, int64_t classes, int64_t features) {
  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  std::vector<float> centre(classes * features);
  Clusters made;
  made.x.resize(batch * features);
  made.weight.resize(classes * features);
  made.label.resize(batch);
  for (float& value : centre) value = normal(random);
  for (float& value : made.weight) value = normal(random);
  for (int64_t i = 0; i < batch; ++i) {
    made.label[i] = i % classes;
    for (int64_t k = 0; k < features; ++k) {
      made.x[i * features + k] = centre[made.label[i] * features + k] + 0.3f * normal(random);
    }
  }
  return made;
}

template <typename T>
sphereface::Matrix<T> row_major(std::vector<float>& data, int64_t rows, int64_t cols) {
  return {data.data(), rows, cols, cols, 1};
}

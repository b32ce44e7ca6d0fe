// The tests of the plugin by what they are about. main.cpp runs them on the library that it has loaded.
#pragma once

void test_attributes();
void test_types_and_shapes();
void test_contract(const char* path);
void test_enqueue_on_the_host();
bool test_enqueue_on_the_gpu();  // false where there is no GPU, or no test of it was compiled

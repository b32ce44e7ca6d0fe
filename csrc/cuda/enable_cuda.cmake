# Finds nvcc and enables the CUDA language; included by the top CMakeLists.txt, because every folder that links the
# kernels needs the language, and only when METST_CUDA is on, because most machines have no nvcc.
#
#   CMAKE_CUDA_COMPILER        nvcc; otherwise CUDACXX, CUDA_PATH, the PATH and the usual folders are searched
#   CMAKE_CUDA_ARCHITECTURES   targets, such as 87; architectures.cmake chooses when not set
if(NOT CMAKE_CUDA_COMPILER)
  file(GLOB metst_toolkits LIST_DIRECTORIES true /usr/local/cuda /usr/local/cuda-* /opt/cuda)
  list(SORT metst_toolkits COMPARE NATURAL ORDER DESCENDING)
  list(TRANSFORM metst_toolkits APPEND /bin)
  find_program(METST_NVCC NAMES "$ENV{CUDACXX}" nvcc
               HINTS "$ENV{CUDA_PATH}/bin" "$ENV{CUDA_HOME}/bin" PATHS ${metst_toolkits})
  if(NOT METST_NVCC)
    message(FATAL_ERROR "METST_CUDA=ON, but nvcc was not found: looked at CUDACXX, in CUDA_PATH/bin, CUDA_HOME/bin, "
                        "the PATH, /usr/local/cuda*/bin and /opt/cuda/bin. Install the CUDA toolkit (JetPack has it), "
                        "or set -DCMAKE_CUDA_COMPILER=/path/to/nvcc, or leave METST_CUDA off.")
  endif()
  set(CMAKE_CUDA_COMPILER ${METST_NVCC})
endif()

include(${CMAKE_CURRENT_LIST_DIR}/architectures.cmake)
enable_language(CUDA)
find_package(CUDAToolkit REQUIRED)

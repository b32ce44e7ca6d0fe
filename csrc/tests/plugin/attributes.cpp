// What the creator says of itself, the plugin's capabilities, its attributes, and where refusals are told.
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <deque>
#include <string>
#include <vector>

#include "driver.h"
#include "tests.h"

namespace {

// As TensorRT keeps a plugin in an engine: names and bytes copied, then given back when the engine is loaded.
class StoredFields {
public:
    explicit StoredFields(const PluginFieldCollection& fields) {
        for (std::int32_t i = 0; i < fields.nbFields; ++i) {
            const char* bytes = static_cast<const char*>(fields.fields[i].data);
            names_.emplace_back(fields.fields[i].name);
            data_.emplace_back(bytes, bytes + sizeof(std::int32_t));
            fields_.emplace_back(names_.back().c_str(), data_.back().data(), fields.fields[i].type,
                                 fields.fields[i].length);
        }
    }
    const std::vector<PluginField>& fields() const { return fields_; }

private:
    std::deque<std::string> names_;
    std::deque<std::vector<char>> data_;
    std::vector<PluginField> fields_;
};

void the_creator_is_metst_selective_scan_1_with_two_fields() {
    EXPECT(std::strcmp(library.creator->getPluginName(), "SelectiveScan") == 0, "%s", library.creator->getPluginName());
    EXPECT(std::strcmp(library.creator->getPluginVersion(), "1") == 0, "%s", library.creator->getPluginVersion());
    EXPECT(std::strcmp(library.creator->getPluginNamespace(), "metst") == 0, "%s",
           library.creator->getPluginNamespace());
    const PluginFieldCollection* fields = library.creator->getFieldNames();
    EXPECT(fields->nbFields == 2, "%d fields", fields->nbFields);
    EXPECT(std::strcmp(fields->fields[0].name, "delta_softplus") == 0, "%s", fields->fields[0].name);
    EXPECT(std::strcmp(fields->fields[1].name, "optional_inputs") == 0, "%s", fields->fields[1].name);
    for (std::int32_t i = 0; i < fields->nbFields; ++i) {
        EXPECT(fields->fields[i].type == PluginFieldType::kINT32 && fields->fields[i].length == 1, "field %d", i);
    }
}

void a_plugin_offers_its_three_capabilities_and_no_other() {
    const Plugin plugin = create(1, kAll);
    const auto& core = capability<IPluginV3OneCore>(*plugin, PluginCapabilityType::kCORE);
    EXPECT(std::strcmp(core.getInterfaceInfo().kind, "PLUGIN_V3ONE_CORE") == 0, "%s", core.getInterfaceInfo().kind);
    EXPECT(std::strcmp(core.getPluginName(), "SelectiveScan") == 0, "%s", core.getPluginName());
    EXPECT(std::strcmp(core.getPluginVersion(), "1") == 0, "%s", core.getPluginVersion());
    EXPECT(std::strcmp(core.getPluginNamespace(), "metst") == 0, "%s", core.getPluginNamespace());
    const nvinfer1::InterfaceInfo info = build(plugin).getInterfaceInfo();
    EXPECT(std::strcmp(info.kind, "PLUGIN_V3ONE_BUILD") == 0 && info.major == 1, "%s %d", info.kind, info.major);
    EXPECT(std::strcmp(runtime(plugin).getInterfaceInfo().kind, "PLUGIN_V3ONE_RUNTIME") == 0, "runtime");
    EXPECT(plugin->getCapabilityInterface(static_cast<PluginCapabilityType>(99)) == nullptr, "capability 99");
    EXPECT(build(plugin).getNbOutputs() == 2, "%d outputs", build(plugin).getNbOutputs());
}

void attributes_survive_serialisation_cloning_and_attaching() {
    for (std::int32_t softplus : {0, 1}) {
        for (std::int32_t optional = 0; optional <= kAll; ++optional) {
            const Attributes expected = {softplus, optional};
            Plugin built = create(softplus, optional);
            EXPECT(serialised(built) == expected, "built %d %d", softplus, optional);
            const std::string timing = build(built).getTimingCacheID();
            const StoredFields stored(*runtime(built).getFieldsToSerialize());
            const Plugin clone(built->clone());
            built.reset();
            EXPECT(serialised(clone) == expected, "clone %d %d", softplus, optional);

            Plugin loaded = create(stored.fields(), TensorRTPhase::kRUNTIME);
            EXPECT(loaded != nullptr && serialised(loaded) == expected, "loaded %d %d", softplus, optional);
            EXPECT(build(loaded).getTimingCacheID() == timing, "%s", timing.c_str());
            const Plugin attached(runtime(loaded).attachToContext(nullptr));
            EXPECT(attached != nullptr && attached != loaded, "attached %d %d", softplus, optional);
            loaded.reset();
            EXPECT(serialised(attached) == expected, "attached %d %d", softplus, optional);
            EXPECT(Described(optional, kTypes[0], {1, 2, 3, 4}).accepted_by(attached), "attached %d", optional);
        }
    }
}

void the_timing_cache_tells_different_attributes_apart() {
    std::vector<std::string> identifiers;
    for (std::int32_t softplus : {0, 1}) {
        for (std::int32_t optional = 0; optional <= kAll; ++optional) {
            identifiers.emplace_back(build(create(softplus, optional)).getTimingCacheID());
        }
    }
    std::sort(identifiers.begin(), identifiers.end());
    EXPECT(std::unique(identifiers.begin(), identifiers.end()) == identifiers.end(), "two are the same");
}

void attributes_default_to_softplus_and_all_inputs_when_building() {
    const Attributes expected = {1, kAll};
    EXPECT(serialised(create({})) == expected, "no fields");
    const Plugin plugin(library.creator->createPlugin("layer", nullptr, TensorRTPhase::kBUILD));
    EXPECT(plugin != nullptr && serialised(plugin) == expected, "no collection");
}

void bad_attributes_are_refused() {
    const std::int32_t one = 1, two = 2, sixteen = 16, minus = -1, ones[2] = {1, 1};
    const float real = 1.0f;
    const std::int64_t wide = 1;
    constexpr PluginFieldType kInt = PluginFieldType::kINT32;
    EXPECT_REFUSED(create({{"delta_softplus", &two, kInt, 1}}) == nullptr, "delta_softplus must be 0 to 1, got 2");
    EXPECT_REFUSED(create({{"delta_softplus", &minus, kInt, 1}}) == nullptr, "must be 0 to 1, got -1");
    EXPECT_REFUSED(create({{"optional_inputs", &sixteen, kInt, 1}}) == nullptr, "must be 0 to 15, got 16");
    EXPECT_REFUSED(create({{"optional_inputs", &minus, kInt, 1}}) == nullptr, "must be 0 to 15, got -1");
    EXPECT_REFUSED(create({{"delta_softplus", ones, kInt, 2}}) == nullptr, "one int32, got 2 values");
    EXPECT_REFUSED(create({{"delta_softplus", ones, kInt, 0}}) == nullptr, "one int32, got 0 values");
    EXPECT_REFUSED(create({{"delta_softplus", nullptr, kInt, 1}}) == nullptr, "one int32, got 0 values");
    EXPECT_REFUSED(create({{"delta_softplus", &real, PluginFieldType::kFLOAT32, 1}}) == nullptr, "one int32");
    EXPECT_REFUSED(create({{"optional_inputs", &wide, PluginFieldType::kINT64, 1}}) == nullptr, "one int32");
    EXPECT_REFUSED(create({{"softplus", &one, kInt, 1}}) == nullptr, "unknown attribute softplus, expected delta_soft");
    EXPECT_REFUSED(create({{nullptr, &one, kInt, 1}}) == nullptr, "unknown attribute (no name)");
    EXPECT_REFUSED(create({}, TensorRTPhase::kRUNTIME) == nullptr, "lacks the attribute delta_softplus");
    EXPECT_REFUSED(create({{"delta_softplus", &one, kInt, 1}}, TensorRTPhase::kRUNTIME) == nullptr,
                   "lacks the attribute optional_inputs");
    EXPECT_REFUSED(library.creator->createPlugin("layer", nullptr, TensorRTPhase::kRUNTIME) == nullptr,
                   "Build it again");
}

// What goes to stderr while `body` runs.
template <typename Body>
std::string stderr_of(Body body) {
    std::FILE* file = std::tmpfile();
    std::fflush(stderr);
    const int kept = dup(STDERR_FILENO);
    dup2(fileno(file), STDERR_FILENO);
    body();
    std::fflush(stderr);
    dup2(kept, STDERR_FILENO);
    close(kept);
    std::rewind(file);
    char text[1024] = "";
    const std::size_t read = std::fread(text, 1, sizeof text - 1, file);
    std::fclose(file);
    return std::string(text, read);
}

void messages_go_to_stderr_when_there_is_no_logger() {
    const std::int32_t two = 2;
    const auto refused = [&] {
        EXPECT(create({{"delta_softplus", &two, PluginFieldType::kINT32, 1}}) == nullptr, "was accepted");
    };
    const std::string expected = "metst::SelectiveScan: attribute delta_softplus must be 0 to 1, got 2\n";
    library.set_logger_finder(nullptr);
    EXPECT(stderr_of(refused) == expected, "no finder");
    library.set_logger_finder(&finder);
    finder.throws = true;
    EXPECT(stderr_of(refused) == expected, "a finder that throws");
    finder.throws = false;
    EXPECT(logger.messages.empty(), "the logger got %s", logger.messages.front().c_str());
}

}  // namespace

void test_attributes() {
    the_creator_is_metst_selective_scan_1_with_two_fields();
    a_plugin_offers_its_three_capabilities_and_no_other();
    attributes_survive_serialisation_cloning_and_attaching();
    the_timing_cache_tells_different_attributes_apart();
    attributes_default_to_softplus_and_all_inputs_when_building();
    bad_attributes_are_refused();
    messages_go_to_stderr_when_there_is_no_logger();
}
